"""What `python -m pluggrad explain` shows for GPUs that are not here, and how machine code is read."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import pytest

from pluggrad import cli
from pluggrad.plugin_api import CompileError, DeviceUnavailable, seal
from pluggrad_cuda import nvdisasm, nvrtc, toolkit
from pluggrad_cuda.compiler import CudaToolchain
from pluggrad_cuda.target import A100, KNOWN, target_of

PRODUCT = "(Tensor.rand(256, 128) @ Tensor.rand(128, 256)).relu()"
HALVES = "Tensor.rand(1024, 1024, dtype='float16') @ Tensor.rand(1024, 1024, dtype='float16')"
CODE = b"\x7fELF machine code"


def explain(capsys, *arguments: str) -> str:
    assert cli.main(["explain", *arguments, "--device", "cuda"]) == 0
    return str(capsys.readouterr().out)


# ---- targets by name ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", KNOWN)
def test_every_stage_up_to_the_source_is_shown(capsys, name) -> None:
    text = explain(capsys, PRODUCT, "--target", name)
    assert f"\nfor cuda {name}: {KNOWN[name].multiprocessors} cores" in text
    assert "=== schedule: 3 regions" in text
    assert "=== render: 3 sources" in text
    assert "=== runtime" not in text


def test_the_source_is_the_architecture_s_own(capsys) -> None:
    shown = ("--stage", "render", "--full")
    sources = {name: explain(capsys, HALVES, "--target", name, *shown) for name in KNOWN}
    assert "mma.sync" in sources["sm_80"]
    assert "wgmma.mma_async" not in sources["sm_80"]
    assert "wgmma.mma_async" in sources["sm_90a"]


def test_an_unknown_target_is_refused_with_those_that_there_are(capsys) -> None:
    assert cli.main(["explain", PRODUCT, "--device", "cuda", "--target", "sm_12"]) == 2
    assert "expected one of sm_80, sm_90a, got 'sm_12'" in capsys.readouterr().err


# ---- machine code ------------------------------------------------------------------------------------------
@pytest.fixture
def places(tmp_path, monkeypatch) -> dict[str, Path]:
    """Folders in which the disassembler is looked for, without one in them."""
    wheel, other, path = (tmp_path / name for name in ("wheel", "toolkit", "path"))
    found = {"wheel": wheel / "nvidia" / "cu13" / "bin", "toolkit": other / "bin", "path": path}
    for folder in found.values():
        folder.mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(wheel)])
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"purelib": str(wheel), "platlib": str(wheel)})
    monkeypatch.setattr(nvdisasm, "toolkits", lambda: iter([other]))
    monkeypatch.setenv("PATH", str(path))
    return found


def write_program(folder: Path, script: str) -> None:
    program = folder / nvdisasm._PROGRAM
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)


def disassembled() -> str:
    return CudaToolchain(target_of(A100)).disassemble(seal(CODE))


def test_without_a_disassembler_the_fix_is_named(places) -> None:
    with pytest.raises(CompileError, match=r"nvdisasm, which is not here    try: pip install .*\[nvdisasm\]"):
        disassembled()


@pytest.mark.skipif(toolkit.WINDOWS, reason="the double of the program is a shell script")
def test_the_wheel_s_goes_before_a_toolkit_s_and_that_on_the_path(places) -> None:
    for name in ("path", "toolkit", "wheel"):
        write_program(places[name], f"echo {name}")
        assert disassembled() == f"{name}\n"


@pytest.mark.skipif(toolkit.WINDOWS, reason="the double of the program is a shell script")
def test_it_is_given_the_code_and_not_what_it_is_sealed_with(places) -> None:
    write_program(places["wheel"], 'echo "$1"; read -r line < "$2" || echo "$line"')
    assert disassembled() == f"--print-code\n{CODE.decode()}\n"


@pytest.mark.skipif(toolkit.WINDOWS, reason="the double of the program is a shell script")
@pytest.mark.parametrize(("script", "message"), [
    ("echo no such architecture >&2; exit 1", "refused machine code: no such architecture"),
    ("exit 3", "refused machine code")])
def test_a_refusal_is_an_error_with_what_it_said(places, script, message) -> None:
    write_program(places["toolkit"], script)
    with pytest.raises(CompileError, match=message):
        disassembled()


@pytest.mark.skipif(toolkit.WINDOWS, reason="permissions are POSIX's")
def test_a_program_that_does_not_run_is_named(places) -> None:
    (places["wheel"] / nvdisasm._PROGRAM).write_bytes(b"")
    with pytest.raises(CompileError, match=r"nvdisasm does not run: .*try: pip install"):
        disassembled()


def test_machine_code_is_shown_without_a_driver(capsys) -> None:
    try:
        nvrtc.library()
    except DeviceUnavailable as error:
        pytest.skip(f"needs NVRTC: {error}")
    if next(nvdisasm.candidates(), None) is None:
        pytest.skip(f"needs nvdisasm: {nvdisasm.FIX}")
    text = explain(capsys, HALVES, "--target", "sm_80", "--asm", "--full").partition("=== asm")[2]
    assert "HMMA.16816.F32" in text  # a matrix unit's instruction
    assert "LDGSTS" in text  # a copy to shared memory that is not waited for
