"""What `pluggrad.plugin_api` promises, a line each. Run it to see them; tests/architecture compares them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

from pluggrad import plugin_api
from pluggrad.device import hookspecs

RECORD = Path(__file__).with_name("plugin_api_v1.txt")


def surface() -> Iterator[str]:
    """Names, methods and their parameters, fields of values, hooks and their arguments."""
    for name in sorted(plugin_api.__all__):
        yield name
        value = getattr(plugin_api, name)
        if isinstance(value, type) and value.__module__.startswith("pluggrad."):
            yield from _class(name, value)
        elif inspect.isfunction(value):
            yield from _parameters(name, value)
    for name, function in sorted(vars(hookspecs).items()):
        if name.startswith("pluggrad_") and inspect.isfunction(function):
            yield f"hook {name}"
            yield from _parameters(f"hook {name}", function)


def _class(name: str, cls: type) -> Iterator[str]:
    if is_dataclass(cls):
        yield from (f"{name}.{field.name}" for field in fields(cls))
    yield from (f"{name}.{field}" for field in getattr(cls, "_fields", ()))  # of a named tuple
    for part in sorted(dir(cls)):
        value = inspect.getattr_static(cls, part)
        owner = next((base for base in cls.__mro__ if part in vars(base)), object)
        if part.startswith("_") or not owner.__module__.startswith("pluggrad."):
            continue
        if inspect.isfunction(value):
            yield f"{name}.{part}"
            yield from _parameters(f"{name}.{part}", value)
        elif isinstance(value, property | bool | int | str | tuple | frozenset) and not is_dataclass(cls):
            yield f"{name}.{part}"


def _parameters(name: str, function: object) -> Iterator[str]:
    for parameter in inspect.signature(function).parameters.values():  # type: ignore[arg-type]
        if parameter.name != "self":
            yield f"{name}({parameter.name})"


if __name__ == "__main__":
    RECORD.write_text("\n".join(surface()) + "\n", encoding="utf-8")
