"""What passes between the runner and its workers: a description of the device, and how a test ended."""
from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Literal

from pluggrad.errors import PluggradError
from pluggrad.target import Capabilities, MatrixUnit
from pluggrad.testing.conformance.mismatch import Mismatch
from pluggrad.testing.conformance.registry import ConformanceTest

Ending = Literal["passed", "failed", "killed"]
_FIELDS: Final = ("op", "dtype", "expected", "got", "where", "suggests")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a test did not pass, as text. Only `message` is always there.

    where: the first wrong element. suggests: the defect that this looks like. output: what the process
    printed meanwhile.
    """

    message: str
    op: str = ""
    dtype: str = ""
    expected: str = ""
    got: str = ""
    where: str = ""
    suggests: str = ""
    traceback: str = ""
    output: str = ""

    @classmethod
    def of(cls, error: BaseException, test: ConformanceTest) -> Failure:
        """What an exception says; what it leaves out comes from the test's case and declaration."""
        said = {name: str(getattr(error, name, "") or "") for name in _FIELDS}
        known = {name: str(test.case.get(name, "")) for name in ("op", "dtype")} | {"suggests": test.suggests}
        text = error.message or "wrong" if isinstance(error, Mismatch) else _line(error)
        if not isinstance(error, Mismatch):
            said["op"] = ""  # of something within the test, and part of the text
        merged = {name: said[name] or known.get(name, "") for name in _FIELDS}
        return cls(text, **merged, traceback="".join(traceback.format_exception(error)))


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    kind = type(error).__name__
    return f"{kind}: {text}" if text else kind


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test ended in its worker. "killed": the process died or did not answer in time."""

    ending: Ending
    seconds: float
    failure: Failure | None = None

    def data(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Outcome:
        """The inverse of `data`."""
        failure = data["failure"]
        return cls(data["ending"], data["seconds"], None if failure is None else Failure(**failure))

    def with_output(self, output: str) -> Outcome:
        """The same, with what the worker printed kept for a failure."""
        if self.failure is None or not output:
            return self
        return replace(self, failure=replace(self.failure, output=output))


@dataclass(frozen=True, slots=True)
class Description:
    """The device under test. name: its own; about: the backend's word on driver and versions."""

    device: str
    name: str
    about: str
    distribution: str
    version: str
    arch: str
    capabilities: Capabilities

    def data(self) -> dict[str, Any]:
        """As JSON values."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return plain | {"capabilities": _plain(self.capabilities)}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Description:
        """The inverse of `data`."""
        declared: dict[str, Any] = {name: frozenset(value) if isinstance(value, list) else value
                                    for name, value in data["capabilities"].items() if name not in _ROWS}
        declared |= {name: tuple(map(row, data["capabilities"][name])) for name, row in _ROWS.items()}
        return cls(**{**data, "capabilities": Capabilities(**declared)})


# capabilities that are rows, each from its values
_ROWS: Final[dict[str, Callable[[Any], Any]]] = {"widening": tuple, "matrix_units": MatrixUnit._make}


def _plain(capabilities: Capabilities) -> dict[str, Any]:
    return {field.name: sorted(value) if isinstance(value, frozenset) else value
            for field in fields(capabilities) for value in [getattr(capabilities, field.name)]}


def summary_of(error: BaseException) -> str:
    """An exception in one line, for what went wrong outside of a test."""
    return str(error) if isinstance(error, PluggradError) else _line(error)
