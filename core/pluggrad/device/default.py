"""Which device is meant when nobody names one."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pluggrad import config
from pluggrad.device import markers
from pluggrad.device.discovery import Entry
from pluggrad.device.names import CORE_DISTRIBUTION, NOT_INSTALLED, known_devices
from pluggrad.device.plugins import Plugin, PluginHost
from pluggrad.errors import DeviceError, DeviceUnavailable, UserError
from pluggrad.target import DeviceId

REFERENCE_TIER = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """The default device, and why it is that one."""

    device: DeviceId
    reason: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A device type that works here."""

    name: str
    tier: int


def from_list(wanted: Sequence[str], ready: Callable[[str], DeviceId], warn: Callable[[str], None]) -> Choice:
    """The first of PLUGGRAD_DEVICE that opens; one warning a skip. A single name works or raises."""
    variable = config.DEVICE.variable
    if len(wanted) == 1:
        return Choice(ready(wanted[0]), variable)
    reasons = []
    for name in wanted:
        try:
            return Choice(ready(name), f"the first of {variable}={','.join(wanted)} that opens")
        except UserError as error:
            reasons.append(str(error))
            warn(f"{variable} skips '{name}': {error}")
    raise DeviceUnavailable(f"none of {variable}={','.join(wanted)} works:\n  " + "\n  ".join(reasons))


def working(plugins: Sequence[Plugin], warn: Callable[[str], None]) -> list[Candidate]:
    """The device types that have a device, best first. A failed plugin warns, an absent device does not."""
    found = []
    for plugin in plugins:
        tier = _tier_if_working(plugin, warn)
        if tier is not None:
            found.append(Candidate(plugin.entry.name, tier))
    return sorted(found, key=lambda candidate: (-candidate.tier, candidate.name))


def _tier_if_working(plugin: Plugin, warn: Callable[[str], None]) -> int | None:
    entry = plugin.entry
    if plugin.settled:
        dead = None
    elif (dead := markers.died(entry)) is not None:
        warn(f"device '{entry.name}' ({entry.provider}) is skipped: process {dead} died while probing it.    "
             f"try: python -m pluggrad devices  (probes it again, and lifts this when it lives)")
        return None
    try:
        with markers.probing(entry):
            return plugin.backend().tier if plugin.probe().count > 0 else None
    except DeviceError as error:
        warn(str(error))
        return None


def by_tier(plugins: Sequence[Plugin], entries: Sequence[Entry], host: PluginHost,
            warn: Callable[[str], None]) -> Choice:
    """A site's policy if one speaks, else the highest tier that works, then alphabetical."""
    foreign = [plugin for plugin in plugins if plugin.entry.distribution != CORE_DISTRIBUTION]
    candidates = working(foreign, warn)
    if not any(candidate.tier > REFERENCE_TIER for candidate in candidates):
        candidates += working([plugin for plugin in plugins if plugin not in foreign], warn)
    if not candidates:
        raise _nothing(entries)
    chosen = _policy(candidates, host, warn)
    if chosen is not None:
        return chosen
    best = candidates[0]
    if best.tier <= REFERENCE_TIER:
        warn(known_devices().only_reference if not foreign else
             f"no compiled device works here; '{best.name}' is slow.    try: python -m pluggrad devices")
    return Choice(DeviceId(best.name), f"highest tier that works ({best.tier})")


def _policy(candidates: Sequence[Candidate], host: PluginHost, warn: Callable[[str], None]) -> Choice | None:
    names = [candidate.name for candidate in candidates]
    try:
        wanted = host.hooks.pluggrad_choose_default(candidates=names)
    except Exception as error:  # a broken policy must not take every device away
        warn(f"the hook pluggrad_choose_default failed: {type(error).__name__}: {error}")
        return None
    if wanted is None:
        return None
    if wanted not in names:
        warn(f"the hook pluggrad_choose_default chose {wanted!r}, which is not among {', '.join(names)}")
        return None
    return Choice(DeviceId(wanted), "the site's policy (pluggrad_choose_default)")


def _nothing(entries: Sequence[Entry]) -> DeviceUnavailable:
    if not any(entry.distribution == CORE_DISTRIBUTION for entry in entries):
        return DeviceUnavailable(f"no device is installed: {NOT_INSTALLED}")
    return DeviceUnavailable("no device works here.    try: python -m pluggrad devices")
