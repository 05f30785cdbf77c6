"""Which devices there are: on a machine without Metal, and on machines of the double."""

from __future__ import annotations

import platform
import sys

import pytest

from pluggrad import cli
from pluggrad.plugin_api import UnknownDevice
from pluggrad_metal.plugin import MetalBackend


def test_elsewhere_it_needs_macos():
    if platform.system() == "Darwin":
        pytest.skip("this is macOS")
    found = MetalBackend().probe()
    assert (found.count, found.reason) == (0, "needs macOS")
    assert found.fix


def test_on_a_mac_without_pyobjc_the_fix_is_named(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setitem(sys.modules, "pluggrad_metal.driver", None)
    found = MetalBackend().probe()
    assert found.count == 0
    assert "pip install 'pyobjc-framework-Metal" in found.fix


@pytest.mark.parametrize(("name", "type_of_halves"), [("apple7", "ushort"), ("apple9", "bfloat")])
def test_code_is_shown_for_gpus_that_are_not_here(capsys, name, type_of_halves):
    shown = ["Tensor.rand(256, dtype='bfloat16') + 1", "--target", name, "--stage", "render", "--full"]
    assert cli.main(["explain", *shown, "--device", "metal"]) == 0
    assert f"device {type_of_halves} *" in capsys.readouterr().out


def test_there_is_no_disassembler_of_metal(capsys):
    shown = ["explain", "Tensor([1.0]) + 1", "--device", "metal", "--target", "apple9", "--asm"]
    assert cli.main(shown) == 2
    assert "this toolchain does not disassemble" in capsys.readouterr().err


def test_it_says_that_no_run_on_hardware_is_recorded():
    assert "no run on Apple hardware is recorded yet" in MetalBackend().describe()


def test_the_default_device_comes_first(machine, backend):
    from gpu import Device

    machine.devices += [Device("Apple M3 Max"), Device("AMD Radeon Pro 5500M", family=0, unified=False)]
    assert backend.probe().names == ("Apple M3 Max", "AMD Radeon Pro 5500M")
    assert "apple9" in backend.target(0, "").arch
    assert "float64" not in backend.target(1, "").capabilities.dtypes
    with pytest.raises(UnknownDevice):
        backend.target(2, "")


def test_devices_are_found_where_there_is_no_default_one(machine, backend):
    machine.has_default = False
    assert backend.probe().count == 1


def test_a_machine_without_a_gpu(machine, backend, monkeypatch):
    import Metal

    machine.has_default = False
    monkeypatch.setattr(Metal, "MTLCopyAllDevices", list)
    found = backend.probe()
    assert found.count == 0
    assert "no Metal device" in found.reason


def test_no_variants(backend):
    with pytest.raises(UnknownDevice, match="no variants"):
        backend.target(0, "fast")
