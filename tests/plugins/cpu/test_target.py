"""The plugin door and the probe."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from pluggrad.device.registry import Registry
from pluggrad.errors import PluginFailed, ValueRangeError
from pluggrad.plugin_api import DeviceId, DeviceUnavailable, PluginApi, Target, UnknownDevice
from pluggrad_cpu import settings, target
from pluggrad_cpu.plugin import CpuBackend, pluggrad_backend

Configure = Callable[..., None]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    """`configure(CPU_THREADS="2")` sets settings of the plugin for one test."""
    declared = (settings.THREADS, settings.TEAM, settings.TARGET)

    def configure(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"PLUGGRAD_{name}", value)
        for setting in declared:
            setting.forget()

    yield configure
    monkeypatch.undo()
    for setting in declared:
        setting.forget()


def test_importing_the_plugin_loads_no_llvm_and_no_numpy() -> None:
    script = ("import sys, pluggrad_cpu.plugin as p; p.CpuBackend().probe();"
              "sys.exit(sum(name in sys.modules for name in ('llvmlite', 'numpy')))")
    assert subprocess.run([sys.executable, "-c", script], timeout=300, check=False).returncode == 0


def test_the_hook_gives_a_backend_with_one_device() -> None:
    backend = pluggrad_backend(PluginApi("cpu"))
    probe = backend.probe()
    assert (probe.count, len(probe.names), backend.tier) == (1, 1, 10)
    assert "LLVM" in backend.describe()


def test_a_machine_without_llvmlite_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert CpuBackend().probe().fix == "pip install llvmlite"
    with pytest.raises(DeviceUnavailable, match=r"llvmlite is not installed .* pip install llvmlite"):
        CpuBackend().open(0, "")


@pytest.mark.parametrize(("index", "variant", "message"), [(1, "", "cpu:1 does"), (0, "c", "cpu@c does")])
def test_there_is_one_cpu_without_variants(index: int, variant: str, message: str) -> None:
    with pytest.raises(UnknownDevice, match=message):
        CpuBackend().target(index, variant)


def test_the_host_is_described() -> None:
    found = target.host_target()
    triple, cpu, _ = found.arch.split("|")
    assert triple
    assert cpu
    caps = found.capabilities
    assert caps.vector_bytes in (0, 16, 32, 64)
    assert 1 <= caps.cores <= (os.cpu_count() or 1)
    assert 16 << 10 <= caps.cache_bytes <= caps.shared_cache_bytes
    assert pickle.loads(pickle.dumps(found)) == found


def test_threads_are_set_and_key_caches(configure: Configure) -> None:
    keys = set()
    for threads in ("1", "7"):
        configure(CPU_THREADS=threads)
        found = target.host_target()
        assert found.capabilities.cores == int(threads)
        keys.add(found.key())
    assert len(keys) == 2  # how work is cut into tasks depends on them


@pytest.mark.parametrize(("name", "value", "expected"), [
    ("CPU_THREADS", "-2", "at least 0"), ("CPU_THREADS", "many", "an integer")])
def test_a_bad_thread_count_names_the_variable(
    configure: Configure, name: str, value: str, expected: str,
) -> None:
    configure(**{name: value})
    with pytest.raises(ValueRangeError, match=f"PLUGGRAD_{name}: expected {expected}"):
        target.host_target()


def test_narrower_code_can_be_asked_for(configure: Configure) -> None:
    configure(CPU_TARGET="plain")
    plain = target.host_target()
    assert plain.capabilities.vector_bytes == 0
    assert plain.key() != _native(configure).key()


@pytest.mark.skipif(target.machine() != "x86_64", reason="x86-64 only")
def test_x86_levels(configure: Configure) -> None:
    widest = _native(configure).capabilities.vector_bytes
    for name, width, cpu in (("sse2", 16, "x86-64"), ("avx2", 32, "x86-64-v3"), ("avx512", 64, "x86-64-v4")):
        configure(CPU_TARGET=name)
        if width <= widest:
            found = target.host_target()
            assert (found.capabilities.vector_bytes, found.arch.split("|")[1:]) == (width, [cpu, ""])
        else:
            with pytest.raises(DeviceUnavailable, match="one that this CPU has"):
                target.host_target()


def test_an_unknown_instruction_set_lists_the_known(configure: Configure) -> None:
    configure(CPU_TARGET="mmx")
    with pytest.raises(DeviceUnavailable, match=r"PLUGGRAD_CPU_TARGET: expected one .*native, .*plain"):
        target.host_target()


def _native(configure: Configure) -> Target:
    configure(CPU_TARGET="native")
    return target.host_target()


@pytest.mark.parametrize(("text", "cores"), [("max 100000", 1 << 16), ("150000 100000", 2), ("400 100", 4)])
def test_a_containers_quota_counts(monkeypatch: pytest.MonkeyPatch, text: str, cores: int) -> None:
    monkeypatch.setattr("pathlib.Path.read_text", lambda path: text)
    assert target._quota() == cores


def test_a_bad_setting_is_no_defect_of_the_plugin(configure: Configure) -> None:
    configure(CPU_THREADS="-2")
    with pytest.raises(PluginFailed, match="got -2    try: give PLUGGRAD_CPU_THREADS another value"):
        Registry().target(DeviceId("cpu"))
