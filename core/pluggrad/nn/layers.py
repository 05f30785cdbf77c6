"""Layers: small modules whose tensors are marked `requires_grad` when they are made."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pluggrad.errors import ValueRangeError
from pluggrad.nn.module import Module
from pluggrad.tensor import Tensor


class Linear(Module):
    """`x @ weight.T + bias` over the last axis: (..., in_features) to (..., out_features).

    weight: (out_features, in_features); bias: (out_features,) or None. Both start uniform within
    1/sqrt(in_features).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features, self.out_features = in_features, out_features
        bound = 1 / math.sqrt(in_features) if in_features > 0 else 0.0
        self.weight = Tensor.uniform(out_features, in_features, low=-bound, high=bound, requires_grad=True)
        self.bias = Tensor.uniform(out_features, low=-bound, high=bound, requires_grad=True) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        return x.linear(self.weight.transpose(), self.bias)

    def __repr__(self) -> str:
        return (f"Linear(in_features={self.in_features}, out_features={self.out_features}, "
                f"bias={self.bias is not None})")


class Embedding(Module):
    """Rows of a table: integers (...) below `vocab_size` to floats (..., embed_size).

    weight: (vocab_size, embed_size), uniform by Glorot's rule. padding_idx: this row starts as zeros and gets
    no gradient. IndexError for an index out of range, when the result is computed.
    """

    def __init__(self, vocab_size: int, embed_size: int, padding_idx: int | None = None) -> None:
        if padding_idx is not None and not -vocab_size <= padding_idx < vocab_size:
            expected = f"a padding_idx in [{-vocab_size}, {vocab_size - 1}]"
            raise ValueRangeError(op="Embedding", expected=expected, got=str(padding_idx))
        self.vocab_size, self.embed_size = vocab_size, embed_size
        self.padding_idx = None if padding_idx is None else padding_idx % vocab_size
        weight = Tensor.glorot_uniform(vocab_size, embed_size, requires_grad=False)
        if self.padding_idx is not None:
            weight = (Tensor.arange(vocab_size).reshape(-1, 1) == self.padding_idx).where(0.0, weight)
        self.weight = weight.requires_grad_()

    def __call__(self, idx: Tensor) -> Tensor:
        rows = idx.embedding(self.weight)
        if self.padding_idx is None:
            return rows
        return (idx == self.padding_idx).unsqueeze(-1).where(rows.detach(), rows)

    def __repr__(self) -> str:
        return f"Embedding({self.vocab_size}, {self.embed_size}, padding_idx={self.padding_idx})"


class Dropout(Module):
    """While `Tensor.training`, each element is zero with probability `p` and the rest are scaled by 1/(1-p).

    N. Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueRangeError(op="Dropout", expected="a probability p from 0 to 1", got=str(p))
        self.p = p

    def __call__(self, x: Tensor) -> Tensor:
        return x.dropout(self.p)

    def __repr__(self) -> str:
        return f"Dropout(p={self.p})"


class Flatten(Module):
    """The axes from start_dim to end_dim, inclusive, as one: by default all but the batch."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(self.start_dim, self.end_dim)

    def __repr__(self) -> str:
        return f"Flatten(start_dim={self.start_dim}, end_dim={self.end_dim})"


class Sequential(Module):
    """Layers and functions called one after another; its tensors are named "0.weight", "0.bias", "2.weight".

    Takes the layers as arguments or as one list. Slices are Sequentials over the same layers.
    """

    def __init__(self, *layers: Callable[[Any], Any] | Sequence[Callable[[Any], Any]]) -> None:
        given = layers[0] if len(layers) == 1 and isinstance(layers[0], list | tuple) else layers
        # attributes named by their position, so that state dicts have PyTorch's names
        vars(self).update({str(index): layer for index, layer in enumerate(given)})

    def __iter__(self) -> Iterator[Callable[[Any], Any]]:
        return (layer for name, layer in vars(self).items() if name.isdigit())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, index: int | slice) -> Any:
        chosen = list(self)[index]
        return Sequential(chosen) if isinstance(index, slice) else chosen

    def __call__(self, x: Any) -> Any:
        for layer in self:
            x = layer(x)
        return x


class Identity(Module):
    """The input as it is: a layer where another one is left out. Arguments of the other one are ignored."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, x: Any) -> Any:
        return x


class ModuleList(list[Any]):
    """A list of layers. A plain list does as well: this is for code that comes from PyTorch."""


class ModuleDict(dict[str, Any]):
    """Layers by name. A plain dictionary does as well: this is for code that comes from PyTorch."""
