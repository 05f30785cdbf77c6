"""Who owns a device name, what people type instead of one, and what to say when nobody provides it."""
from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pluggrad.errors import UnknownDevice

CORE_DISTRIBUTION: Final = "pluggrad"
_CLOSE: Final = 0.65  # of difflib: 'cup' is close to 'cpu', 'nope' to nothing
NOT_INSTALLED: Final = ("pluggrad's own entry points are not visible: it runs from a source tree that is not "
                        "installed.    try: pip install -e . in the source tree")


@dataclass(frozen=True, slots=True)
class KnownDevices:
    """The data of known_devices.toml. owners, install: by device type. aliases: what each may mean."""

    owners: dict[str, str]
    install: dict[str, str]
    aliases: dict[str, tuple[str, ...]]
    only_reference: str


@lru_cache(maxsize=1)
def known_devices() -> KnownDevices:
    """Read known_devices.toml, once."""
    import tomllib  # both at first use, as all that finding devices takes
    from pathlib import Path

    text = Path(__file__).with_name("known_devices.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    return KnownDevices(
        owners={name: row["distribution"] for name, row in data["devices"].items()},
        install={name: row["install"] for name, row in data["devices"].items()},
        aliases={name: tuple(meant) for name, meant in data["aliases"].items()},
        only_reference=data["messages"]["only_reference"])


def normalized(distribution: str) -> str:
    """A distribution name as indexes compare them (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def meaning(name: str, installed: Collection[str]) -> str:
    """The device type that an alias stands for; `name` itself where it is no alias or a plugin provides it.

    UnknownDevice where an alias may mean several devices and not exactly one of them is installed.
    """
    meant = known_devices().aliases.get(name)
    if meant is None or name in installed:
        return name
    if len(meant) == 1:
        return meant[0]
    present = [other for other in meant if other in installed]
    if len(present) == 1:
        return present[0]
    if present:
        raise UnknownDevice(f"'{name}' may mean {_quoted(present, 'or')} here.    name one of them")
    raise UnknownDevice(f"no plugin provides device '{name}'. {_installed(installed)}    "
                        f"install one:  {' | '.join(known_devices().install[other] for other in meant)}")


def unknown(name: str, installed: Collection[str], asked: str = "", remark: str = "") -> UnknownDevice:
    """The error for a type that no plugin provides. asked: what was typed. remark: what else is known."""
    known = known_devices()
    typed = f" ('{asked}' means '{name}')" if asked and asked != name else ""
    head = f"no plugin provides device '{name}'{typed}. {_installed(installed)} {remark}".rstrip()
    if name in known.install:
        return _unknown(head, f"install it:  {known.install[name]}")
    import difflib  # for a hint alone

    close = difflib.get_close_matches(name, [*installed, *known.install, *known.aliases], n=1,
                                      cutoff=_CLOSE)
    if not close:
        return _unknown(head, "python -m pluggrad devices  lists what is there")
    meant = known.aliases.get(close[0], (close[0],))[0] if close[0] not in installed else close[0]
    missing = f" install it:  {known.install[meant]}" if meant not in installed else ""
    return _unknown(head, f"did you mean '{close[0]}'?{missing}")


def _unknown(head: str, hint: str) -> UnknownDevice:
    return UnknownDevice(f"{head}    {hint}", op="device", hint=hint)


def _installed(names: Collection[str]) -> str:
    return f"Installed: {', '.join(sorted(names)) or 'none'}."


def _quoted(names: Sequence[str], last: str) -> str:
    quoted = [f"'{name}'" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} {last} {quoted[-1]}"
