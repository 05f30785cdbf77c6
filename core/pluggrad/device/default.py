"""Which device is meant when nobody names one."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from pluggrad import config
from pluggrad.device import markers
from pluggrad.device.discovery import Entry
from pluggrad.device.names import CORE_DISTRIBUTION, NOT_INSTALLED, known_devices
from pluggrad.device.plugins import Plugin, PluginHost, reason_of
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


def from_list(wanted: Sequence[str], opened: Callable[[str], DeviceId],
              warn: Callable[[str], None]) -> Choice:
    """The first of several names that opens; one warning a skip, with its reason."""
    variable, reasons = config.DEVICE.variable, []
    for name in wanted:
        try:
            return Choice(opened(name), f"the first of {variable}={','.join(wanted)} that opens")
        except UserError as error:
            reasons.append(str(error))
            warn(f"{variable} skips '{name}': {error}")
    raise DeviceUnavailable(f"none of {variable}={','.join(wanted)} works:\n  " + "\n  ".join(reasons))


def working(plugins: Sequence[Plugin], warn: Callable[[str], None], *, enough: int = 0) -> list[Candidate]:
    """The device types that have a device, best first; stops after `enough` of them (0: all).

    A plugin that fails, or that a process died of, warns; an absent device does not.
    """
    tiers = {plugin: _guarded(plugin, lambda plugin: plugin.backend().tier, warn) for plugin in plugins}
    ranked = sorted((-tier, plugin.entry.name, plugin) for plugin, tier in tiers.items() if tier is not None)
    found: list[Candidate] = []
    for negative_tier, name, plugin in ranked:
        if enough and sum(candidate.tier >= -negative_tier for candidate in found) >= enough:
            break
        if _guarded(plugin, lambda plugin: plugin.probe().count, warn):
            seen = plugin.probe().tier
            found.append(Candidate(name, -negative_tier if seen is None else min(seen, -negative_tier)))
    found.sort(key=lambda candidate: (-candidate.tier, candidate.name))
    return found[:enough] if enough else found


def _guarded(plugin: Plugin, action: Callable[[Plugin], int], warn: Callable[[str], None]) -> int | None:
    entry = plugin.entry
    if plugin.settled:
        return None if plugin.failure is not None else action(plugin)
    dead = markers.died(entry)
    if dead is not None:
        warn(f"device '{entry.name}' ({entry.provider}) is skipped: process {dead} died while probing it.    "
             f"try: python -m pluggrad devices  (probes it again, and lifts this when it lives)")
        return None
    try:
        with markers.probing(entry):
            return action(plugin)
    except DeviceError as error:
        warn(str(error))
        return None


def by_tier(plugins: Sequence[Plugin], entries: Sequence[Entry], host: PluginHost,
            resolve: Callable[[str], DeviceId], warn: Callable[[str], None]) -> Choice:
    """A site's policy if one speaks, else the highest tier that works, then alphabetical."""
    foreign = [plugin for plugin in plugins if plugin.entry.distribution != CORE_DISTRIBUTION]
    policy = host.listening("pluggrad_choose_default")
    candidates = working(foreign, warn, enough=0 if policy else 1)
    if policy or not any(candidate.tier > REFERENCE_TIER for candidate in candidates):
        candidates += working([plugin for plugin in plugins if plugin not in foreign], warn)
    if not candidates:
        raise _nothing(entries)
    chosen = _policy(candidates, host, resolve, warn) if policy else None
    if chosen is not None:
        return chosen
    best = candidates[0]
    if best.tier <= REFERENCE_TIER:
        warn(known_devices().only_reference if not foreign else
             f"no compiled device works here; '{best.name}' is slow.    try: python -m pluggrad devices")
    return Choice(DeviceId(best.name), f"highest tier that works ({best.tier})")


def _policy(candidates: Sequence[Candidate], host: PluginHost, resolve: Callable[[str], DeviceId],
            warn: Callable[[str], None]) -> Choice | None:
    """What the first policy with an opinion says. One that breaks must not take every device away."""
    names = tuple([candidate.name for candidate in candidates])
    for policy in host.each("pluggrad_choose_default", candidates=names):
        who = f"the policy of {policy.provider}"
        try:
            wanted = policy.call()
            if wanted is not None:
                return Choice(resolve(cast(str, wanted)), who)
        except UserError as error:
            warn(f"{who} is passed over, since it chose {wanted!r}: {error}")
        except Exception as error:
            warn(f"{who} is passed over: {reason_of(error)}")
    return None


def _nothing(entries: Sequence[Entry]) -> DeviceUnavailable:
    if not any(entry.distribution == CORE_DISTRIBUTION for entry in entries):
        return DeviceUnavailable(f"no device is installed: {NOT_INSTALLED}")
    return DeviceUnavailable("no device works here.    try: python -m pluggrad devices")
