"""An optional base for models. A plain class with tensors in its attributes is a model too."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.nn.state.tensors import (
    get_parameters,
    get_state_dict,
    load_state_dict,
    named_modules,
    parts,
    to_device,
    to_dtype,
)
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

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors that are not marked, such as running means, each once."""
        unmarked = {id(tensor): tensor for tensor in get_parameters(self) if not tensor.requires_grad}
        for name, tensor in get_state_dict(self).items():
            if unmarked.pop(id(tensor), None) is not None:
                yield name, tensor

    def buffers(self) -> list[Tensor]:
        """The tensors that are not marked, each once."""
        return [tensor for _, tensor in self.named_buffers()]

    def named_modules(self) -> Iterator[tuple[str, Any]]:
        """This module, as "", and every layer inside it, each once, under the first of its names."""
        yield from named_modules(self)

    def modules(self) -> Iterator[Any]:
        """This module and every layer inside it, each once."""
        return (module for _, module in named_modules(self))

    def apply(self, fn: Callable[[Any], Any]) -> Self:
        """Call `fn` with every layer, those inside another before it, and with this module at last."""
        for module in reversed(list(self.modules())):
            fn(module)
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of all tensors."""
        for tensor in get_parameters(self):
            tensor.grad = None

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

    def to(self, device: str | DeviceId | DType | None = None, dtype: DType | str | None = None) -> Self:
        """Move every tensor to `device`, and cast the float ones to a float `dtype` (given alone, too).

        In place; see `nn.state.to_device` and `nn.state.to_dtype`.
        """
        if isinstance(device, DType):
            device, dtype = None, device
        if dtype is not None:
            to_dtype(self, dtypes.to_dtype(dtype))
        if device is not None:
            to_device(self, device)
        return self

    def half(self) -> Self:
        """Cast every float tensor to float16, in place."""
        return self.to(dtypes.float16)

    def bfloat16(self) -> Self:
        """Cast every float tensor to bfloat16, in place."""
        return self.to(dtypes.bfloat16)

    def float(self) -> Self:
        """Cast every float tensor to float32, in place."""
        return self.to(dtypes.float32)

    def double(self) -> Self:
        """Cast every float tensor to float64, in place."""
        return self.to(dtypes.float64)

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
