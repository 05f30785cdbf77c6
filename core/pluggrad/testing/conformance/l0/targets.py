"""The target: a plain value that says what code is made for, the same in every process."""
from __future__ import annotations

import math
import pickle
from dataclasses import replace
from typing import Any

from pluggrad import dtypes
from pluggrad.device.contract import FEATURES
from pluggrad.device.registry import REGISTRY
from pluggrad.kernel.ops import KERNEL_OPS
from pluggrad.lower import lower
from pluggrad.target import Capabilities, DeviceId, Target
from pluggrad.testing.conformance.fresh import in_fresh_process
from pluggrad.testing.conformance.kernels import affine
from pluggrad.testing.conformance.mismatch import expect
from pluggrad.testing.conformance.registry import conformance
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject
from pluggrad.tune import tune

_KNOWN_DTYPES = frozenset(dtype.name for dtype in dtypes.ALL)
_KEY_SUGGESTS = ("the cache key ignores the architecture: binaries made for one device would be loaded on "
                 "another")


def found_target(device: DeviceId) -> tuple[Target, Any, str]:
    """The target of a device, its key, and its toolchain's part of the cache key."""
    target = REGISTRY.target(device)
    return target, target.key(), REGISTRY.toolchain(device).cache_key


@conformance("L0", "target/picklable", suggests="the target holds a handle, or compares by identity")
def picklable(subject: Subject) -> None:
    target = subject.target
    copy = pickle.loads(pickle.dumps(target))
    expect(copy == target, "a pickled target is another one", expected=str(target), got=str(copy))
    expect(copy.key() == target.key(), "a pickled target has another key", expected=str(target.key()),
           got=str(copy.key()))


@conformance("L0", "target/same-in-every-process",
             suggests="the target or a cache key depends on addresses, hashes, time or what was opened")
def same_everywhere(subject: Subject) -> None:
    here = (subject.target, subject.target.key(), subject.toolchain.cache_key)
    for seed in (1, 2):
        there = in_fresh_process(found_target, subject.id, hash_seed=seed)
        for what, have, want in zip(("target", "target's key", "toolchain's cache key"), there, here,
                                    strict=True):
            expect(have == want, f"the {what} is another one in a process of its own", expected=str(want),
                   got=str(have))


@conformance("L0", "target/by-name", requires=requires(dtype="int32"),
             suggests="targets() names one that the toolchain makes no code for without its device")
def by_name(subject: Subject) -> None:
    for name, target in subject.backend.targets().items():
        expect(pickle.loads(pickle.dumps(target)) == target, f"target {name!r}, pickled, is another one",
               expected=str(target))
        kernel = tune(affine(100), target.capabilities).phases[0].kernel
        source = subject.backend.toolchain(target).render(lower(kernel, target))
        expect(source.strip(), f"a kernel for target {name!r}", expected="source text", got=repr(source))


@conformance("L0", "target/of-the-open-device",
             suggests="the device opens with another target than was asked for")
def of_the_open_device(subject: Subject) -> None:
    want = subject.backend.target(subject.hardware.index, subject.hardware.variant)
    expect(subject.device.target == want, "Device.target is not Backend.target()", expected=str(want),
           got=str(subject.device.target))


@conformance("L0", "target/key-names-the-architecture", suggests=_KEY_SUGGESTS)
def key_names_the_architecture(subject: Subject) -> None:
    target = subject.target
    expect(target.arch and target.arch != subject.id.type, "the architecture says nothing",
           expected="what code for this device depends on: instruction set, driver, versions",
           got=repr(target.arch))
    other = replace(target, arch=f"{target.arch}-other")
    expect(other.key() != target.key(), "two architectures have one key",
           expected=f"a key of its own for {other.arch}", got=str(other.key()))


@conformance("L0", "target/key-holds-capabilities", suggests=_KEY_SUGGESTS)
def key_holds_capabilities(subject: Subject) -> None:
    target = subject.target
    wider = replace(target.capabilities, vector_bytes=2 * target.capabilities.vector_bytes + 16)
    expect(replace(target, capabilities=wider).key() != target.key(),
           "targets with different vectors have one key", expected="two keys", got=str(target.key()))


@conformance("L0", "target/capabilities", suggests="a capability has a value that no device can have")
def capabilities(subject: Subject) -> None:
    declared = subject.capabilities
    for name, known in (("dtypes", _KNOWN_DTYPES), ("arithmetic", _KNOWN_DTYPES), ("ops", KERNEL_OPS.keys()),
                        ("features", FEATURES.keys())):
        unknown = getattr(declared, name) - known
        expect(not unknown, f"capabilities.{name} holds unknown names", expected=", ".join(sorted(known)),
               got=", ".join(sorted(unknown)))
    expect(declared.dtypes, "capabilities.dtypes is empty", expected="what the device can store")
    _check_arithmetic(declared)
    for name in ("vector_bytes", "alignment"):
        value = getattr(declared, name)
        expect(value >= 0 and value & (value - 1) == 0, f"capabilities.{name}", expected="a power of two",
               got=str(value))
    for name in ("cores", "alignment", "subgroup_width", "vector_registers", "cache_bytes"):
        expect(getattr(declared, name) >= 1, f"capabilities.{name}", expected="at least 1",
               got=str(getattr(declared, name)))
    for name in ("launch_cost_us", "team_cost_us", "flops_per_core", "bytes_per_second"):
        value = getattr(declared, name)
        expect(value >= 0 and math.isfinite(value), f"capabilities.{name}", expected="a finite number",
               got=str(value))
    for dtype, factor in declared.widening:
        expect(dtype in declared.dtypes and factor >= 1, "capabilities.widening",
               expected="a declared dtype and a factor of at least 1", got=f"{dtype}, {factor}")


def _check_arithmetic(declared: Capabilities) -> None:
    """Half floats that are not computed in are widened to float32; all else that is stored is computed in."""
    widened = {dtype.name for dtype in dtypes.FLOATS} & declared.dtypes - declared.arithmetic
    expect(not widened or "float32" in declared.arithmetic,
           f"{', '.join(sorted(widened))} is stored and nothing is there to compute it in",
           expected="float32 in capabilities.arithmetic", got=", ".join(sorted(declared.arithmetic)))
    expect(not widened & {"float32", "float64"}, "float32 and float64 are not widened",
           expected="them in capabilities.arithmetic, or not in capabilities.dtypes",
           got=", ".join(sorted(declared.arithmetic)))
    whole = {dtype.name for dtype in dtypes.ALL if not dtype.is_float} & declared.dtypes - declared.arithmetic
    expect(not whole, "integers and bool that are stored are computed in",
           expected="them in capabilities.arithmetic", got=f"no {', '.join(sorted(whole))}")
