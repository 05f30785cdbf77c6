"""Probing: says what is there, and never fails for what is not."""
from __future__ import annotations

from pluggrad.device.contract import Probe
from pluggrad.device.registry import REGISTRY
from pluggrad.target import DeviceId
from pluggrad.testing.conformance.fresh import in_fresh_process
from pluggrad.testing.conformance.mismatch import Mismatch, expect
from pluggrad.testing.conformance.registry import conformance
from pluggrad.testing.conformance.subject import Subject


def probed(device_type: str) -> Probe:
    """What the backend sees, without the registry's memory."""
    return REGISTRY.backend(device_type).probe()


def _probe(subject: Subject) -> Probe:
    try:
        return probed(DeviceId.parse(subject.name).type)
    except Exception as error:
        raise Mismatch("probe() raised",
                       expected="a Probe; for missing hardware Probe(0, reason=..., fix=...)",
                       got=f"{type(error).__name__}: {error}",
                       suggests="probe() lets a driver's error through") from error


@conformance("L0", "probe/shape", blind=True, suggests="the result of probe() does not say what it should")
def shape(subject: Subject) -> None:
    probe = _probe(subject)
    expect(isinstance(probe, Probe), "probe() has to return a Probe", got=type(probe).__name__)
    expect(probe.count >= 0, "Probe.count", expected="a number of devices", got=repr(probe.count))
    names: object = probe.names
    expect(isinstance(names, tuple) and all(isinstance(name, str) for name in names), "Probe.names",
           expected="a tuple of text", got=repr(names))
    expect(len(probe.names) in (0, probe.count), "Probe.names", expected=f"{probe.count} names, or none",
           got=str(len(probe.names)))
    expect(probe.count > 0 or (probe.reason and probe.fix), "no device, and not said why",
           expected="a reason and a fix", got=f"reason {probe.reason!r}, fix {probe.fix!r}")


@conformance("L0", "probe/repeatable", blind=True,
             suggests="probe() depends on what ran before, or leaves something behind")
def repeatable(subject: Subject) -> None:
    first = _probe(subject)
    for _ in range(3):
        again = _probe(subject)
        expect(again == first, "probe() gives different results", expected=str(first), got=str(again))
    fresh = in_fresh_process(probed, DeviceId.parse(subject.name).type)
    expect(fresh == first, "probe() gives another result in another process", expected=str(first),
           got=str(fresh))


@conformance("L0", "probe/while-open", suggests="probe() does not see a device that this process has open")
def while_open(subject: Subject) -> None:
    before = _probe(subject)
    _ = subject.device
    expect(_probe(subject) == before, "probe() gives another result once a device is open",
           expected=str(before), got=str(_probe(subject)))


@conformance("L0", "probe/describe", blind=True, suggests="describe() fails or gives no text")
def describe(subject: Subject) -> None:
    about = REGISTRY.backend(DeviceId.parse(subject.name).type).describe()
    expect(isinstance(about, str), "describe()", expected="a line of text", got=repr(about))
    expect("\n" not in about, "describe()", expected="one line", got=repr(about))
