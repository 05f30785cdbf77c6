"""The pickles in PyTorch's files, read without running what they name.

A pickle is a program that may call any function it can import. Here nothing is imported: each name in the
list below becomes an inert stand-in, calls of those are noted, and any other name ends the reading. Tensors
are made from the notes when the whole pickle has been read.
"""
from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.errors import FileFormatError
from pluggrad.tensor import Tensor

_DTYPES: Final = {
    "bool": dtypes.bool_,
    "uint8": dtypes.uint8, "uint16": dtypes.uint16, "uint32": dtypes.uint32, "uint64": dtypes.uint64,
    "int8": dtypes.int8, "int16": dtypes.int16, "int32": dtypes.int32, "int64": dtypes.int64,
    "float16": dtypes.float16, "bfloat16": dtypes.bfloat16, "float32": dtypes.float32,
    "float64": dtypes.float64,
}
_STORAGES: Final = {
    "BoolStorage": dtypes.bool_, "ByteStorage": dtypes.uint8, "CharStorage": dtypes.int8,
    "ShortStorage": dtypes.int16, "IntStorage": dtypes.int32, "LongStorage": dtypes.int64,
    "HalfStorage": dtypes.float16, "BFloat16Storage": dtypes.bfloat16, "FloatStorage": dtypes.float32,
    "DoubleStorage": dtypes.float64,
}
_UNTYPED: Final = "torch.storage.UntypedStorage"


class Stored(NamedTuple):
    """What a pickle says of a storage: its key, its dtype (None: bytes) and its number of elements."""

    key: str
    dtype: DType | None
    size: int


class _Call(NamedTuple):
    """A call that the pickle asks for."""

    name: str
    arguments: tuple[Any, ...]


class _Name:
    """Stands for something that the pickle names; called, it takes a note."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> Any:
        plain = _PLAIN.get(self.name)
        return _Call(self.name, arguments) if plain is None else plain(*arguments)


# ---- what may be named -------------------------------------------------------------------------------------
def _device(kind: str, index: int | None = None) -> str:
    return kind if index is None else f"{kind}:{index}"


# containers, which are filled while the pickle is read
_PLAIN: Final[dict[str, Callable[..., Any]]] = {
    "collections.OrderedDict": OrderedDict,
    "collections.Counter": dict,
    "builtins.set": set,
    "torch.Size": tuple,
    "torch.device": _device,
}


class _Builder:
    """Makes tensors from notes, with the elements of storages that `read` finds."""

    def __init__(self, op: str, read: Callable[[Stored], npt.NDArray[Any]], device: Any) -> None:
        self._op, self._read, self._device = op, read, device
        self._made: dict[int, Any] = {}
        self._calls: dict[str, Callable[..., Any]] = {
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor_v3": self._tensor_of_bytes,
            "torch._utils._rebuild_parameter": self._parameter,
            "torch._utils._rebuild_parameter_with_state": self._parameter,
            "torch._tensor._rebuild_from_type_v2": self._of_type,
        }

    def build(self, part: Any) -> Any:
        """`part` with tensors and dtypes in place of notes and names; what is shared stays shared."""
        known = self._made.get(id(part))
        if known is not None:
            return known
        if isinstance(part, dict):
            made: Any = {}
            self._made[id(part)] = made
            made.update({self.build(key): self.build(value) for key, value in dict.items(part)})
        elif isinstance(part, list):
            made = self._made[id(part)] = []
            made.extend([self.build(each) for each in part])
        elif isinstance(part, _Call):
            made = self._made[id(part)] = self._calls[part.name](*part.arguments)
        elif isinstance(part, _Name):
            made = _DTYPES.get(part.name.removeprefix("torch."), part.name)
        elif isinstance(part, tuple | set):
            made = type(part)(self.build(each) for each in part)
        else:
            made = part
        return made

    def _tensor(self, stored: Any, offset: int, size: Any, stride: Any, *rest: Any) -> Tensor:
        if not isinstance(stored, Stored) or stored.dtype is None:
            raise self.broken("a tensor without a typed storage")
        return self._view(stored, stored.dtype, offset, size, stride)

    def _tensor_of_bytes(self, stored: Any, offset: int, size: Any, stride: Any, requires_grad: bool,
                         hooks: Any, dtype: Any, *rest: Any) -> Tensor:
        found = self.build(dtype)
        if not isinstance(stored, Stored) or not isinstance(found, DType):
            raise self.broken("a tensor without a storage or a dtype")
        return self._view(stored, found, offset, size, stride)

    def _view(self, stored: Stored, dtype: DType, offset: int, size: Any, stride: Any) -> Tensor:
        elements = self._read(stored).view(dtype.numpy)
        sizes, strides = tuple(size), tuple(stride)
        if len(sizes) != len(strides) or min((offset, *sizes, *strides)) < 0:
            raise self.broken(f"a tensor of shape {sizes} with strides {strides} from {offset}")
        last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
        if 0 not in sizes and last >= elements.size:
            raise self.broken(f"a tensor of shape {sizes} beyond the {elements.size} elements of its storage")
        steps = tuple([step * dtype.itemsize for step in strides])
        shown = np.lib.stride_tricks.as_strided(elements[offset:], sizes, steps, writeable=False)
        made = Tensor(np.array(shown, order="C"), device=self._device)
        return made.bitcast(dtype) if dtype is dtypes.bfloat16 else made

    def _parameter(self, data: Any, requires_grad: bool, *rest: Any) -> Tensor:
        made = self.build(data)
        if not isinstance(made, Tensor):
            raise self.broken("a parameter without a tensor")
        return made.requires_grad_() if requires_grad and made.dtype.is_float else made

    def _of_type(self, rebuild: Any, kind: Any, arguments: Any, state: Any) -> Any:
        """A tensor with attributes of its own, which are left out."""
        if not isinstance(rebuild, _Name) or rebuild.name not in self._calls:
            raise self.broken("a tensor that something else than PyTorch rebuilds")
        return self._calls[rebuild.name](*arguments)

    def broken(self, got: str) -> FileFormatError:
        """The error for a file that contradicts itself."""
        return FileFormatError(op=self._op, expected="tensors within their storages", got=got,
                               hint="The file is damaged")


_NAMES: Final = frozenset({
    *_PLAIN, _UNTYPED, "torch.Tensor", "torch.nn.parameter.Parameter", "torch._tensor.Tensor",
    "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state",
    "torch._tensor._rebuild_from_type_v2",
    *[f"torch.{name}" for name in (*_DTYPES, *_STORAGES)],
})


# ---- reading -----------------------------------------------------------------------------------------------
class _Reader(pickle.Unpickler):
    """Takes names from the list, and notes storages."""

    def __init__(self, file: BinaryIO, op: str) -> None:
        super().__init__(file, encoding="utf-8")
        self._op = op
        self.stored: dict[str, Stored] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}".replace("__builtin__.", "builtins.")
        if full not in _NAMES:
            raise FileFormatError(
                op=self._op, expected="tensors, numbers, text and containers of these",
                got=f"a pickle that asks for {full}",
                hint="Nothing of it was run. Save a state dict instead: torch.save(model.state_dict(), path)")
        return _Name(full)

    def persistent_load(self, pid: Any) -> Stored:
        match pid:
            case ("storage", _Name() as kind, str(key), _, int(size), *rest) if not any(rest):
                dtype = _STORAGES.get(kind.name.removeprefix("torch."))
                if dtype is not None or kind.name == _UNTYPED:
                    return self.stored.setdefault(key, Stored(key, dtype, size))
        raise FileFormatError(op=self._op, expected="a storage of tensors", got=repr(pid))


def unpickle(file: BinaryIO, op: str) -> tuple[Any, dict[str, Stored]]:
    """The next pickle in `file`, with notes in place of tensors, and its storages by key.

    FileFormatError, with the name, if it asks for anything but tensors; or if it is damaged.
    """
    reader = _Reader(file, op)
    try:
        return reader.load(), reader.stored
    except FileFormatError:
        raise
    except RecursionError as error:
        raise FileFormatError(op=op, expected="containers of moderate depth", got="deeper ones") from error
    except Exception as error:  # whatever a damaged pickle leads to
        raise FileFormatError(op=op, expected="a whole pickle", got=f"{type(error).__name__}: {error}",
                              hint="The file is truncated or damaged") from error


def with_tensors(noted: Any, read: Callable[[Stored], npt.NDArray[Any]], op: str, device: Any) -> Any:
    """What `unpickle` returned, with tensors made from the storages that `read` finds."""
    builder = _Builder(op, read, device)
    try:
        return builder.build(noted)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError, RecursionError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise builder.broken(f"{type(error).__name__}: {error}") from error
