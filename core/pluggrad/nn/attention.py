"""Attention layers and the encoder of a transformer, with PyTorch's names, shapes and masks."""
from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from pluggrad.errors import ShapeError, ValueRangeError
from pluggrad.nn.layers import Dropout, Linear
from pluggrad.nn.module import Module
from pluggrad.nn.normalization import LayerNorm
from pluggrad.tensor import Tensor


class MultiheadAttention(Module):
    """Attention by `num_heads` heads of embed_dim / num_heads each: `layer(query, key, value)`.

    query: (L, N, embed_dim), key: (S, N, kdim), value: (S, N, vdim); with `batch_first` (N, L, ...); without
    a batch (L, ...). Gives the output, shaped like the query, and the weights (N, L, S), the mean over the
    heads, or (N, heads, L, S) with `average_attn_weights=False`; None with `need_weights=False`.
    key_padding_mask: (N, S); attn_mask: (L, S) or (N * heads, L, S). Bool masks are True where a key is *not*
    seen, as PyTorch has them here (`Tensor.scaled_dot_product_attention` has the opposite); float masks are
    added. is_causal: query i sees keys 0 to i, no mask needed. dropout: of the weights, while training.
    in_proj_weight: (3 embed_dim, embed_dim), by Glorot's uniform rule, or q_proj_weight, k_proj_weight and
    v_proj_weight where kdim or vdim differ; in_proj_bias: (3 embed_dim,), zeros; out_proj: a Linear.
    A. Vaswani et al., "Attention Is All You Need", https://arxiv.org/abs/1706.03762.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True,
                 kdim: int | None = None, vdim: int | None = None, batch_first: bool = False) -> None:
        if num_heads < 1 or embed_dim % num_heads:
            raise ShapeError(op="MultiheadAttention", expected=f"heads that divide embed_dim {embed_dim}",
                             got=str(num_heads))
        self.embed_dim, self.num_heads, self.batch_first = embed_dim, num_heads, batch_first
        self.dropout = Dropout(dropout).p
        widths = (embed_dim, embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim)
        if widths == (embed_dim,) * 3:
            self.in_proj_weight = _glorot(3 * embed_dim, embed_dim)
        else:
            self.q_proj_weight, self.k_proj_weight, self.v_proj_weight = [
                _glorot(embed_dim, width) for width in widths]
        self.in_proj_bias = Tensor.zeros(3 * embed_dim, requires_grad=True) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias)
        if self.out_proj.bias is not None:
            self.out_proj.bias = Tensor.zeros(embed_dim, requires_grad=True)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
                 need_weights: bool = True, attn_mask: Tensor | None = None,
                 average_attn_weights: bool = True, is_causal: bool = False) -> tuple[Tensor, Tensor | None]:
        batched = query.ndim == 3
        if not batched:  # one example of a batch
            query, key, value = [x.unsqueeze(0 if self.batch_first else 1) for x in (query, key, value)]
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        if not self.batch_first:
            query, key, value = [x.transpose(0, 1) for x in (query, key, value)]
        q, k, v = self._heads(query, key, value)
        mask = self._mask(q, k.shape[-2], key_padding_mask, attn_mask, is_causal)
        dropout = self.dropout if Tensor.training else 0.0
        heads = q.scaled_dot_product_attention(k, v, mask, dropout)
        output = self.out_proj(heads.transpose(1, 2).flatten(2))
        if not self.batch_first:
            output = output.transpose(0, 1)
        weights = _weights(q, k, mask, average_attn_weights) if need_weights else None
        if batched:
            return output, weights
        return output.squeeze(0 if self.batch_first else 1), None if weights is None else weights.squeeze(0)

    def _heads(self, *inputs: Tensor) -> list[Tensor]:
        """Query, key and value, (N, heads, length, width of a head) each."""
        count, biases = self.embed_dim, self.in_proj_bias
        found = []
        for i, (x, name) in enumerate(zip(inputs, "qkv", strict=True)):
            if x.ndim != 3:
                raise ShapeError(op="MultiheadAttention", got=str(x.shape),
                                 expected="query, key and value of 3 axes each, or 2 without a batch")
            rows = slice(i * count, (i + 1) * count)
            own: Tensor | None = getattr(self, f"{name}_proj_weight", None)
            weight = self.in_proj_weight[rows] if own is None else own
            projected = x.linear(weight.T, None if biases is None else biases[rows])
            found.append(projected.unflatten(-1, (self.num_heads, -1)).transpose(1, 2))
        return found

    def _mask(self, q: Tensor, keys: int, padding: Tensor | None, mask: Tensor | None,
              is_causal: bool) -> Tensor | None:
        """What is added to the scores, (N or 1, heads or 1, L or 1, S), or None."""
        parts = []
        if mask is not None:
            added = _additive(mask)
            parts.append(added if mask.ndim == 2 else added.unflatten(0, (-1, self.num_heads)))
        if padding is not None:
            parts.append(_additive(padding).unsqueeze(1).unsqueeze(1))
        if is_causal and mask is None:
            parts.append(Tensor.full((q.shape[-2], keys), -math.inf, device=q.device).triu(1))
        return sum(parts[1:], parts[0]) if parts else None

    def __repr__(self) -> str:
        return (f"MultiheadAttention({self.embed_dim}, {self.num_heads}, dropout={self.dropout}, "
                f"bias={self.in_proj_bias is not None}, batch_first={self.batch_first})")


def _glorot(rows: int, columns: int) -> Tensor:
    return Tensor.glorot_uniform(rows, columns, requires_grad=True)


def _additive(mask: Tensor) -> Tensor:
    """-inf where a bool mask hides a key; a float mask as it is."""
    return mask if mask.dtype.is_float else mask.bool().where(-math.inf, 0.0)


def _weights(q: Tensor, k: Tensor, mask: Tensor | None, average: bool) -> Tensor:
    """The share of each key in each query's output: the output for values that form the identity."""
    identity = Tensor.eye(k.shape[-2], dtype=q.dtype, device=q.device)
    weights = q.scaled_dot_product_attention(k, identity.expand(*k.shape[:2], -1, -1), mask)
    return weights.mean(1) if average else weights


def _gelu(x: Tensor) -> Tensor:
    return x.gelu("none")


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": Tensor.relu, "gelu": _gelu}


class TransformerEncoderLayer(Module):
    """Self-attention and two linear layers, each with dropout, added to its input and normalized.

    src: (L, N, d_model), with `batch_first` (N, L, d_model), or (L, d_model); the result has its shape.
    src_mask, src_key_padding_mask, is_causal: as of `MultiheadAttention`. activation: "relu", "gelu" or a
    function. norm_first: normalizes what goes into each part instead of what comes out.
    A. Vaswani et al., "Attention Is All You Need", https://arxiv.org/abs/1706.03762.
    """

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
                 activation: str | Callable[[Tensor], Tensor] = "relu", layer_norm_eps: float = 1e-5,
                 batch_first: bool = False, norm_first: bool = False, bias: bool = True) -> None:
        if isinstance(activation, str) and activation not in _ACTIVATIONS:
            raise ValueRangeError(op="TransformerEncoderLayer", got=repr(activation),
                                  expected=f"an activation among {', '.join(_ACTIVATIONS)}, or a function")
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)
        self.linear1 = Linear(d_model, dim_feedforward, bias)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)
        self.norm_first = norm_first
        self.activation = _ACTIVATIONS[activation] if isinstance(activation, str) else activation

    def __call__(self, src: Tensor, src_mask: Tensor | None = None,
                 src_key_padding_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        def attend(x: Tensor) -> Tensor:
            found, _ = self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)
            return self.dropout1(found)

        if self.norm_first:
            x = src + attend(self.norm1(src))
            return x + self._feed_forward(self.norm2(x))
        x = self.norm1(src + attend(src))
        return self.norm2(x + self._feed_forward(x))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class TransformerEncoder(Module):
    """`num_layers` copies of an encoder layer, one after another, and perhaps a normalization at the end.

    The copies begin with equal weights; masks go to each. See `TransformerEncoderLayer`.
    """

    def __init__(self, encoder_layer: TransformerEncoderLayer, num_layers: int, norm: Any = None) -> None:
        self.layers = [copy.deepcopy(encoder_layer) for _ in range(num_layers)]
        self.norm = norm

    def __call__(self, src: Tensor, mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
                 is_causal: bool = False) -> Tensor:
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, is_causal)
        return src if self.norm is None else self.norm(src)
