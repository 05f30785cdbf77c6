"""Which plugins are installed, read from the metadata of distributions. Nothing is imported here."""
from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from pluggrad import config
from pluggrad.device.names import known_devices, normalized
from pluggrad.device.versions import API_MAJOR

if TYPE_CHECKING:
    from importlib.metadata import Distribution

Verdict = Literal["loadable", "shadowed", "blocked", "incompatible", "failed"]

_GROUP: Final = re.compile(r"pluggrad\.(?P<kind>devices|extensions)\.v(?P<major>\d+)")
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry point of a distribution, and whether it may be loaded; if not, why, and a fix.

    kind: "devices" or "extensions". major: of the plugin API that it was made for.
    """

    name: str
    value: str
    kind: str
    major: int
    distribution: str
    version: str
    verdict: Verdict = "loadable"
    reason: str = ""
    fix: str = ""

    @property
    def provider(self) -> str:
        """Distribution and version, for messages."""
        return f"{self.distribution} {self.version}".strip()

    def refused(self, verdict: Verdict, reason: str, fix: str) -> Entry:
        return replace(self, verdict=verdict, reason=reason, fix=fix)


def discover(path: Sequence[str] | None = None) -> tuple[Entry, ...]:
    """Every plugin entry point on `sys.path` (or `path`) with its verdict, by name and distribution."""
    found = sorted(_entries(path), key=lambda entry: (entry.name, entry.distribution))
    return tuple(_judged(found))


def _entries(path: Sequence[str] | None) -> Iterator[Entry]:
    from importlib.metadata import distributions  # at first use: it brings much along

    seen: set[str] = set()
    installed = distributions() if path is None else distributions(path=list(path))
    for distribution in installed:
        # parsing every distribution's metadata takes long; one look at the text leaves the few that matter
        if not _GROUP.search(_text_of(distribution)):
            continue
        name = _name_of(distribution)
        if name in seen:  # an earlier folder of sys.path wins, as it does for imports
            continue
        seen.add(name)
        yield from _entries_of(distribution, name)


def _text_of(distribution: Distribution) -> str:
    try:
        return distribution.read_text("entry_points.txt") or ""
    except (OSError, UnicodeDecodeError):
        return ""


def _name_of(distribution: Distribution) -> str:
    try:
        return normalized(distribution.metadata["Name"])
    except (OSError, KeyError, TypeError):  # metadata without a name, or none at all
        return "unknown"


def _entries_of(distribution: Distribution, name: str) -> Iterator[Entry]:
    try:
        version, points = distribution.version or "", list(distribution.entry_points)
    except Exception as error:  # damaged metadata of one distribution must not hide the others
        yield Entry("-", "", "devices", API_MAJOR, name, "").refused(
            "failed", f"its metadata cannot be read: {error}", f"pip install --force-reinstall {name}")
        return
    for point in points:
        group = _GROUP.fullmatch(point.group)
        if group is None:
            continue
        kind, major = group["kind"], int(group["major"])
        entry = Entry(point.name.strip().lower(), point.value, kind, major, name, version)
        if kind == "devices" and not _NAME.fullmatch(entry.name):
            fault = f"its entry point {point.name!r} is no device name"
            entry = entry.refused("failed", fault, f"report it to {name}")
        yield entry


def _judged(entries: Sequence[Entry]) -> Iterator[Entry]:
    ours = {(e.kind, e.name, e.distribution) for e in entries if e.major == API_MAJOR}
    rivals = defaultdict(list)
    for entry in entries:
        if entry.kind == "devices" and entry.major == API_MAJOR and entry.verdict == "loadable":
            rivals[entry.name].append(entry)
    for entry in entries:
        if entry.major == API_MAJOR:
            yield _verdict(entry, rivals[entry.name])
        elif (entry.kind, entry.name, entry.distribution) not in ours:  # else it serves both majors
            mismatch = f"made for plugin API v{entry.major}; this pluggrad has v{API_MAJOR}"
            yield entry.refused("incompatible", mismatch,
                                f"install a {entry.distribution} for v{API_MAJOR}, or another pluggrad")


def _verdict(entry: Entry, rivals: Sequence[Entry]) -> Entry:
    if entry.verdict != "loadable":
        return entry
    if {entry.name, entry.distribution} & {name.lower() for name in config.DISABLE.value}:
        variable = config.DISABLE.variable
        return entry.refused("blocked", f"{variable} names it", f"unset {variable}")
    if entry.kind != "devices":
        return entry
    owner = known_devices().owners.get(entry.name)
    if owner is not None:
        if owner == entry.distribution:
            return entry
        return entry.refused("shadowed", f"the name '{entry.name}' belongs to {owner}",
                             f"uninstall {entry.distribution}, or ask its authors for a name of its own")
    third_parties = [other for other in rivals if other.distribution != entry.distribution]
    if not third_parties:
        return entry
    preferred = _preferred(entry.name, [entry, *third_parties])
    if preferred == entry.distribution:
        return entry
    if preferred:
        return entry.refused("shadowed", f"{config.PREFER.variable} prefers {preferred}", "")
    names = sorted({entry.distribution, *(other.distribution for other in third_parties)})
    return entry.refused("blocked", f"{' and '.join(names)} both provide '{entry.name}'",
                         f"{config.PREFER.variable}={entry.name}={names[0]}")


def _preferred(name: str, rivals: Iterable[Entry]) -> str:
    wanted = dict(pair.split("=", 1) for pair in config.PREFER.value if "=" in pair)
    choice = normalized(wanted.get(name, "").strip())
    return choice if choice in {entry.distribution for entry in rivals} else ""
