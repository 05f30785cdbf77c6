"""An optional base for models. A plain class with tensors in its attributes is a model too."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

from pluggrad.nn.state import get_parameters, get_state_dict, load_state_dict, parts, walk
from pluggrad.tensor import Tensor


class Module:
    """Calling a module calls its `forward`. The base adds what PyTorch users expect; nothing needs it.

    `training` is None while a module follows `Tensor.training`, as at first; `train` and `eval` pin it.
    """

    training: bool | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; every subclass has its own."""
        raise NotImplementedError(f"{type(self).__name__} has neither `forward` nor `__call__`")

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """The marked tensors (`requires_grad`), each once, under the first of its names."""
        marked = {id(tensor) for tensor in get_parameters(self) if tensor.requires_grad}
        for name, tensor in get_state_dict(self).items():
            if id(tensor) in marked:
                marked.remove(id(tensor))
                yield name, tensor

    def parameters(self) -> list[Tensor]:
        """The marked tensors (`requires_grad`), each once."""
        return [tensor for _, tensor in self.named_parameters()]

    def state_dict(self) -> dict[str, Tensor]:
        """Every tensor by name; see `nn.state.get_state_dict`."""
        return get_state_dict(self)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True) -> None:
        """Take the values in `state_dict`; see `nn.state.load_state_dict` for what is checked."""
        load_state_dict(self, state_dict, strict)

    def train(self, mode: bool | None = True) -> Self:
        """Pin this module and those inside it to training (True), inference (False), or neither (None)."""
        for _, part in walk(self):
            if isinstance(part, Module):
                part.training = mode
        return self

    def eval(self) -> Self:
        """Pin this module and those inside it to inference."""
        return self.train(False)

    @property
    def is_training(self) -> bool:
        """What holds now: the pinned mode, else `Tensor.training`."""
        return Tensor.training if self.training is None else self.training

    def to(self, device: str) -> Self:
        """Move every tensor to `device`, in place."""
        for tensor in get_parameters(self):
            tensor.replace(tensor.to(device))
        return self

    def __repr__(self) -> str:
        rows = [f"{name}: {_shown(part)}" for name, part in parts(self) if _is_layer(part)]
        if not rows:
            return f"{type(self).__name__}()"
        body = "\n".join(rows).replace("\n", "\n  ")
        return f"{type(self).__name__}(\n  {body}\n)"


def _is_layer(part: object) -> bool:
    """Layers, functions between them, and lists of such."""
    if isinstance(part, list | tuple):
        return any(_is_layer(each) for each in part)
    return callable(part) and not isinstance(part, Tensor)


def _shown(part: Any) -> str:
    if isinstance(part, list | tuple):
        return "[" + ", ".join(_shown(each) for each in part) + "]"
    return part.__name__ if hasattr(part, "__name__") else repr(part)
