"""What a child process of `python -m pluggrad devices` does: probe one plugin, or find the default device.

It writes a line of JSON as each phase begins and one at the end to a report file (a plugin may print what it
likes), so that the parent knows how far a process came that died.
"""
from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from pluggrad.device.contract import Backend, Probe
from pluggrad.device.plugins import Plugin, reason_of
from pluggrad.device.registry import REGISTRY
from pluggrad.errors import PluggradError, PluginFailed
from pluggrad.testing.conformance.shipped import one_line, shipped

DEFAULT: Final = "--default"
# what the import of a plugin's module must not load (conformance L0)
HEAVY: Final = ("numpy", "scipy", "torch")


class Report:
    """The report file: one JSON object a line."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - closed by the end of the process

    def write(self, **fields: Any) -> None:
        """Write one line so that it survives a crash right after."""
        self._file.write(json.dumps(fields) + "\n")
        self._file.flush()

    def phase(self, phase: str) -> None:
        """Say that a phase begins."""
        self.write(phase=phase)


def main(arguments: Sequence[str]) -> int:
    """`REPORT NAME [-v]` probes the device type NAME; `REPORT --default` finds the default device."""
    report = Report(arguments[0])
    if arguments[1] == DEFAULT:
        report.write(**_default())
    else:
        _probe(report, arguments[1], verbose="-v" in arguments[2:])
    return 0


def _default() -> dict[str, Any]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            device = str(REGISTRY.resolve(None))
            chosen: dict[str, Any] = {"default": device, "reason": REGISTRY.default_reason()}
        except PluggradError as error:
            chosen = {"default": None, "reason": str(error)}
    return chosen | {"warnings": [str(warning.message) for warning in caught]}


def _probe(report: Report, name: str, verbose: bool) -> None:
    plugin = REGISTRY.plugin(name)
    plugin.on_phase = report.phase
    try:
        result = _probed(plugin)
        if verbose and result["state"] == "ready":
            result |= _capabilities(report, name) | _smoke(report, name) | _variants(plugin, name)
            result |= _shipped(plugin)
    except PluginFailed as error:
        result = _failure(plugin, error)
    report.write(**result)


def _probed(plugin: Plugin) -> dict[str, Any]:
    before, start = set(sys.modules), time.perf_counter()
    backend: Backend = plugin.backend()
    seconds, loaded = time.perf_counter() - start, [m for m in HEAVY if m in sys.modules and m not in before]
    probe: Probe = plugin.probe()
    state = "ready" if probe.count > 0 else "unavailable"
    return {"state": state, "count": probe.count, "names": list(probe.names), "reason": probe.reason,
            "fix": probe.fix, "tier": backend.tier, "import_seconds": seconds, "import_loads": loaded,
            "about": _about(backend)}


def _about(backend: Backend) -> str:
    try:
        return str(backend.describe())
    except Exception as error:
        return f"describe() failed: {reason_of(error)}"


def _failure(plugin: Plugin, error: PluginFailed) -> dict[str, Any]:
    failure = plugin.failure
    if failure is None:  # a later phase, which does not condemn the plugin
        return {"state": "failed", "phase": error.phase, "reason": str(error), "fix": error.hint}
    return {"state": "failed", "phase": failure.phase, "reason": failure.reason, "fix": failure.fix,
            "traceback": failure.traceback}


def _capabilities(report: Report, name: str) -> dict[str, Any]:
    report.phase("target")
    target = REGISTRY.target(REGISTRY.resolve(name))
    plain = {key: sorted(value) if isinstance(value, frozenset) else value
             for key, value in asdict(target.capabilities).items()}
    return {"arch": target.arch, "capabilities": plain}


def _shipped(plugin: Plugin) -> dict[str, Any]:
    """What the conformance report says that comes with the plugin."""
    found = shipped(plugin.entry.value)
    return {} if found is None else {"conformance": one_line(found)}


def _variants(plugin: Plugin, name: str) -> dict[str, Any]:
    """Each variant, who brings it, and why it does not work where it does not."""
    own = dict.fromkeys(plugin.backend().variants, plugin.entry.provider)
    brought = {variant: " and ".join(each.provider for each in found)
               for variant, found in REGISTRY.brought(name).items() if variant not in own}
    providers = {f"{name}@{variant}": provider for variant, provider in (own | brought).items()}
    return {"variants": [{"device": device, "plugin": provider, "reason": _why_not(device)}
                         for device, provider in providers.items()]}


def _why_not(device: str) -> str:
    try:
        REGISTRY.toolchain(REGISTRY.resolve(device))
    except PluggradError as error:
        return str(error)
    return ""


def _smoke(report: Report, name: str) -> dict[str, Any]:
    """Run one kernel through every stage and compare its result."""
    report.phase("smoke")
    start = time.perf_counter()
    try:
        from pluggrad import Tensor

        values = (Tensor([1.0, 2.0], device=name) + 1).tolist()
    except Exception as error:
        return {"state": "failed", "phase": "smoke", "reason": reason_of(error)}
    if values != [2.0, 3.0]:
        return {"state": "failed", "phase": "smoke", "reason": f"[1.0, 2.0] + 1 gave {values}"}
    return {"smoke": f"first kernel right, after {(time.perf_counter() - start) * 1e3:.0f} ms"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
