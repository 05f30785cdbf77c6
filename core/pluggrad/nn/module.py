"""An optional base for models. A plain class with tensors in its attributes is a model too."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

from pluggrad.nn.state.tensors import get_parameters, get_state_dict, load_state_dict, parts, to_device
from pluggrad.target import DeviceId
from pluggrad.tensor import Tensor


class Module:
    """Calling a module calls its `forward`. The base adds what PyTorch users expect; nothing needs it."""

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

    def train(self, mode: bool = True) -> Self:
        """Set `Tensor.training`, which holds for all modules: there is no mode for each."""
        Tensor.training = mode
        return self

    def eval(self) -> Self:
        """Set `Tensor.training` to False."""
        return self.train(False)

    def to(self, device: str | DeviceId) -> Self:
        """Move every tensor to `device`, in place; see `nn.state.to_device`."""
        to_device(self, device)
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
