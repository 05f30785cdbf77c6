"""NVRTC: where it is found, what it makes, and what is said where it refuses. Needs no GPU."""

from __future__ import annotations

import pickle
import shutil
import sys
import sysconfig
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pluggrad.plugin_api import CompileError, DeviceUnavailable, merged, unseal
from pluggrad_cuda import nvrtc, toolkit
from pluggrad_cuda.compiler import CudaToolchain
from pluggrad_cuda.resources import Resources, parse
from pluggrad_cuda.target import A100, H100, target_of
from tests.program_cases import CASES, GROUPS

try:
    nvrtc.library()
except DeviceUnavailable as error:
    pytest.skip(f"needs NVRTC: {error}", allow_module_level=True)

ELF = b"\x7fELF"
ADD = """extern "C" __global__ __launch_bounds__(256)
void add(const float *__restrict__ b0, float *__restrict__ b1, const float s0) {
    b1[threadIdx.x] = b0[threadIdx.x] + s0;
}
"""
BROKEN = ADD.replace("void add", "void broken").replace("+ s0", "+ undeclared")
HELPER = "static __device__ float twice(float x) { return 2 * x; }"


@pytest.fixture
def toolchain() -> CudaToolchain:
    return CudaToolchain(target_of(A100))


@pytest.fixture
def looked_up_anew() -> Iterator[None]:
    nvrtc.library.cache_clear()
    yield
    nvrtc.library.cache_clear()


# ---- making binaries ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("gpu", [A100, H100], ids=lambda gpu: str(gpu.capability))
def test_a_binary_is_machine_code_of_the_architecture(gpu) -> None:
    code = unseal(CudaToolchain(target_of(gpu)).compile(ADD))
    assert code.startswith(ELF)
    assert b"add" in code
    assert f"-arch sm_{gpu.capability}".encode() in code


def test_kernels_of_a_plan_are_compiled_side_by_side(toolchain, monkeypatch) -> None:
    monkeypatch.setattr("pluggrad_cuda.compiler._cores", lambda: 3)
    programs = [make().program for make in CASES.values()][:30]
    binaries = toolchain.compile_many([toolchain.render(program) for program in programs])
    assert len(binaries) == 30
    assert len(set(binaries)) == 3
    assert all(program.name.encode() in unseal(binary)
               for program, binary in zip(programs, binaries, strict=True))


def test_a_few_small_kernels_are_one_program(toolchain) -> None:
    other = ADD.replace("void add", "void other")
    first, second = toolchain.compile_many([ADD, other])
    assert first is second
    assert toolchain.compile_many([]) == []


def test_threads_compile_at_once(toolchain) -> None:
    sources = [ADD.replace("add", f"add{i}") for i in range(8)]
    made: dict[str, bytes] = {}
    threads = [threading.Thread(target=lambda s=s: made.update({s: toolchain.compile(s)})) for s in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(f"add{i}".encode() in unseal(made[source]) for i, source in enumerate(sources))


def test_a_pickled_toolchain_compiles(toolchain) -> None:
    again = pickle.loads(pickle.dumps(toolchain))
    assert again.cache_key == toolchain.cache_key
    assert unseal(again.compile(ADD)) == unseal(toolchain.compile(ADD))


def test_the_cache_key_names_compiler_architecture_and_options(toolchain) -> None:
    assert f"NVRTC {nvrtc.library()}" in toolchain.cache_key
    assert all(option in toolchain.cache_key for option in toolchain.options)
    assert toolchain.cache_key != CudaToolchain(target_of(H100)).cache_key


# ---- what kernels take -------------------------------------------------------------------------------------
def test_resources_are_read_from_the_log(toolchain) -> None:
    program = GROUPS["grouped ADD float32 x4 by 256"]().program
    found = toolchain.resources(merged([toolchain.render(program), ADD]))
    assert set(found) == {program.name, "add"}
    assert found[program.name].shared_bytes == 256
    assert 0 < found["add"].registers < found[program.name].registers
    assert found["add"].spilled_bytes == found["add"].stack_bytes == 0


def test_spills_are_seen(toolchain) -> None:
    crowded = """extern "C" __global__ __launch_bounds__(1024)
void crowded(float *b0) {
    float x[200];
    for (int i = 0; i < 200; i++) x[i] = b0[i * 1024 + threadIdx.x];
    __syncthreads();
    for (int i = 0; i < 200; i++) b0[i * 1024 + threadIdx.x] = x[199 - i] * x[i];
}
"""
    assert toolchain.resources(crowded)["crowded"].spilled_bytes > 100


def test_a_log_of_nothing_has_no_kernels() -> None:
    assert parse("") == {}
    assert parse("ptxas info : Compiling entry function 'k' for 'sm_80'") == {"k": Resources()}


# ---- refusals ----------------------------------------------------------------------------------------------
def test_the_error_for_a_refused_kernel_has_log_and_numbered_source(toolchain) -> None:
    with pytest.raises(CompileError, match="undeclared") as caught:
        toolchain.compile_many([ADD, BROKEN])
    error = caught.value
    assert error.source == BROKEN  # and not the kernel compiled beside it
    assert "kernels.cu(3): error" in error.log
    assert "\n   3     b1[threadIdx.x] = b0[threadIdx.x] + undeclared;\n" in error.log


def test_an_architecture_that_the_compiler_does_not_know_is_named(toolchain) -> None:
    unknown = CudaToolchain(replace(toolchain.target, arch="sm_990a"))
    with pytest.raises(CompileError, match=r"makes code for .*sm_80.*; not for sm_990a.*pip install"):
        unknown.compile(ADD)


def test_the_assembler_s_refusal_is_an_error_too(toolchain) -> None:
    wgmma = ADD.replace("b1[", 'asm volatile("wgmma.fence.sync.aligned;"); b1[')
    CudaToolchain(target_of(H100)).compile(wgmma)
    with pytest.raises(CompileError, match="wgmma"):
        toolchain.compile(wgmma)


# ---- finding the library -----------------------------------------------------------------------------------
def folders(path: Path) -> Iterator[Path]:
    yield path


def test_no_library_says_how_to_get_one(looked_up_anew, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(nvrtc, "folders", lambda: folders(tmp_path))
    toolchain = CudaToolchain(target_of(A100))
    for needs_it in (lambda: toolchain.cache_key, lambda: toolchain.compile(ADD)):
        with pytest.raises(DeviceUnavailable, match=r"pip install 'pluggrad-cuda\[nvrtc\]'"):
            needs_it()


def test_rendering_needs_no_library(looked_up_anew, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(nvrtc, "folders", lambda: folders(tmp_path))
    program = GROUPS["grouped ADD float32 x4 by 256"]().program
    assert program.name in CudaToolchain(target_of(A100)).render(program)


def test_a_library_that_does_not_load_is_passed_over_and_named(looked_up_anew, monkeypatch, tmp_path) -> None:
    damaged = tmp_path / nvrtc._NAMES[0].replace("*", "99")
    damaged.write_bytes(b"not a library")
    monkeypatch.setattr(nvrtc, "folders", lambda: folders(tmp_path))
    with pytest.raises(DeviceUnavailable, match=damaged.name):
        nvrtc.library()


def test_a_library_that_is_too_old_is_named(looked_up_anew, monkeypatch) -> None:
    monkeypatch.setattr(nvrtc, "_OLDEST", (99, 0))
    with pytest.raises(DeviceUnavailable, match=r"expected NVRTC 99\.0 or newer.*version 1\d\."):
        nvrtc.library()


def test_a_toolkit_is_looked_at_after_the_wheel(monkeypatch, tmp_path) -> None:
    wheel, other = tmp_path / "packages", tmp_path / "toolkit"
    part = "bin" if toolkit.WINDOWS else "lib"
    for folder in (wheel / "nvidia" / "cu13" / part, other / "lib64"):
        folder.mkdir(parents=True)
        folder.joinpath(nvrtc._NAMES[0].replace("*", "13")).touch()
    monkeypatch.setattr(sys, "path", [str(wheel)])
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"purelib": str(wheel), "platlib": str(wheel)})
    monkeypatch.setenv("CUDA_HOME", str(other))
    monkeypatch.delenv("CUDA_PATH", raising=False)
    found = [path for path in nvrtc.candidates() if tmp_path in path.parents]
    assert [path.relative_to(tmp_path).parts[0] for path in found] == ["packages", "toolkit"]
    shutil.rmtree(wheel)
    assert next(nvrtc.candidates()).is_relative_to(other)
