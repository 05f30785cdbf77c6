"""Every public exception.

Two sides: a `UserError` says what was asked, what was expected and what to do; it also derives from the
built-in that NumPy raises in the same place, so `except ValueError` keeps working. An `InternalError` is a
defect of pluggrad.
"""
from __future__ import annotations

import sys
import warnings
from types import FrameType

_METHODS = "pluggrad.tensor."  # the modules whose classes hold the methods that users call


class PluggradError(Exception):
    """Base of everything pluggrad raises. Carries `op`, `expected`, `got`, `hint` (all may be empty)."""

    def __init__(self, message: str = "", *, op: str = "", expected: str = "", got: str = "",
                 hint: str = "") -> None:
        self.op, self.expected, self.got, self.hint = op, expected, got, hint
        super().__init__(message or _compose(op, expected, got, hint))


def _compose(op: str, expected: str, got: str, hint: str) -> str:
    parts = [f"expected {expected}" if expected else "", f"got {got}" if got else ""]
    text = ", ".join(part for part in parts if part)
    head = f"{op}: {text}" if op and text else op or text
    return f"{head}. {hint}" if hint else head


class UserError(PluggradError):
    """The request cannot be met; the message says why and what to do. Nothing was changed."""


class DoorError(UserError):
    """Bad operands, found as the graph is built. `op` begins with the Tensor method that was called."""

    def __init__(self, message: str = "", *, op: str = "", expected: str = "", got: str = "",
                 hint: str = "") -> None:
        method = _method_called()
        named = op if not method or method == op.split(" ")[0] else f"{method} ({op})" if op else method
        super().__init__(message, op=named, expected=expected, got=got, hint=hint)


def _method_called() -> str:
    """The public Tensor method through which this thread came in from outside; "" if it was none."""
    frame: FrameType | None = sys._getframe(2)
    method = ""
    while frame is not None and frame.f_globals.get("__name__", "").startswith("pluggrad."):
        owner, _, name = frame.f_code.co_qualname.rpartition(".")
        public = bool(owner) and "<locals>" not in owner and not name.startswith(("_", "<"))
        if public and frame.f_globals["__name__"].startswith(_METHODS):
            method = name
        frame = frame.f_back
    return method


class InternalError(PluggradError):
    """A defect of pluggrad itself. Please report it with `python -m pluggrad env`."""


class VerifyError(InternalError):
    """A stage's grammar was violated; names the op, the pass and the neighborhood."""


class ShapeError(DoorError, ValueError):
    """Shapes that do not fit together: broadcasting, matmul, reshape, ragged lists, negative sizes."""


class AxisError(DoorError, ValueError, IndexError):
    """An axis that does not exist or is named twice."""


class TensorIndexError(UserError, IndexError):
    """An index out of range, or an index of a kind that is not supported."""


class DTypeError(DoorError, TypeError):
    """A dtype that an operation does not take, or a Python value that a dtype cannot hold."""


class ValueRangeError(DoorError, ValueError):
    """A value outside what an operation takes."""


class SettingError(ValueRangeError):
    """A value that a setting does not take, as its environment variable or the program gives it."""

    def __init__(self, message: str = "", *, op: str = "", expected: str = "", got: str = "",
                 hint: str = "") -> None:
        # not as an operation's: whichever happens to read the setting first, it is the setting that is wrong
        UserError.__init__(self, message, op=op, expected=expected, got=got, hint=hint)


class ExportError(UserError, BufferError):
    """Memory that cannot be shared as asked: of a device the other side cannot see, or only by a copy."""


class LinearAlgebraError(UserError, ValueError):
    """A matrix that an operation cannot take: singular, not positive definite, not a number."""


class GradientError(UserError, RuntimeError):
    """`backward` or `gradient` asked of something that cannot be differentiated."""


class TransformError(UserError, RuntimeError):
    """A value was read, or something else happened, that `vmap`, `grad` or `function` cannot transform."""


class AnomalyError(UserError, FloatingPointError):
    """A NaN (or infinity) that `anomaly` looks for; names the operation that first made it, and its line."""


class StateError(UserError, KeyError):
    """A state dict or checkpoint that does not match; every difference is listed at once."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0]) if self.args else ""


class FileFormatError(UserError, ValueError):
    """A file that is truncated, damaged, or not of the format that was expected."""


class MissingLibrary(UserError, ImportError):
    """An optional library that this needs cannot be imported; the hint installs it."""


class WorkerDied(UserError, RuntimeError):
    """A process of a DataLoader ended before it answered; the message has its exit code."""


class JitError(UserError, RuntimeError):
    """A value was read, or something else happened, that a captured function cannot replay."""


class OutOfMemoryError(UserError, MemoryError):
    """A device could not give the memory asked for; smaller requests may still work."""


class DeviceError(UserError, RuntimeError):
    """Base of what can go wrong with a device or its plugin."""


class UnknownDevice(DeviceError, ValueError):
    """No installed plugin provides this device name."""


class DeviceUnavailable(DeviceError):
    """The plugin is installed, but there is no device, driver or index of that name."""


class PluginFailed(DeviceError):
    """A plugin broke while being imported, registered, probed or opened; `phase` says which."""

    def __init__(self, message: str, *, phase: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.phase = phase


class UnsupportedDType(DeviceError, TypeError):
    """A device that does not declare a dtype was asked to store or compute it."""


class MixedDevices(DeviceError, ValueError):
    """Operands of one operation live on different devices."""


class CompileError(DeviceError):
    """A toolchain refused a kernel; carries `source` and `log`, and the `folder` where both were saved."""

    def __init__(self, message: str, *, source: str = "", log: str = "", folder: str = "") -> None:
        super().__init__(f"{message}    source and log: {folder}" if folder else message)
        self.source, self.log, self.folder = source, log, folder


class KernelFault(DeviceError):
    """A submitted command list failed or was interrupted; its outputs are unusable."""


class DeviceLost(KernelFault):
    """A device is gone for the rest of the process, its tensors with it; other devices go on."""


class PluggradWarning(UserWarning):
    """The one warning category of pluggrad."""


def warn(message: str) -> None:
    """Warn with PluggradWarning at the first caller outside pluggrad: the line that can do something."""
    _, depth = _outside()
    warnings.warn(message, PluggradWarning, stacklevel=depth)


def caller_line() -> str:
    """The line outside pluggrad that is being run, as `file:number: text`."""
    import linecache  # for messages alone

    frame, _ = _outside()
    name, number = frame.f_code.co_filename, frame.f_lineno
    return f"{name}:{number}: {linecache.getline(name, number).strip()}"


def _outside() -> tuple[FrameType, int]:
    """The first frame outside pluggrad, and how many frames up it is for the function that asks, itself 1."""
    depth, frame = 2, sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "pluggrad":
        depth, frame = depth + 1, frame.f_back
    return frame, depth
