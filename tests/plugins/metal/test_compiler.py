"""Targets and binaries of GPUs that are described, on any machine."""

from __future__ import annotations

import pickle

import pytest

from pluggrad.plugin_api import KernelFault, seal
from pluggrad_metal.binaries import read, refused
from pluggrad_metal.compiler import MetalToolchain
from pluggrad_metal.target import M1, M3_MAX, Gpu, language_of, target_of
from tests.plugins.metal.gpus import DISCRETE, EVERY, PARAVIRTUAL
from tests.program_cases import CASES


@pytest.mark.parametrize("gpu", EVERY.values(), ids=EVERY)
def test_a_target_is_plain_data(gpu: Gpu) -> None:
    target = target_of(gpu)
    assert pickle.loads(pickle.dumps(target)) == target
    assert language_of(target.arch) == gpu.language
    assert "float64" not in target.capabilities.dtypes
    assert target.capabilities.max_buffers == 30  # and one for values: Metal has 31
    assert target.capabilities.unified_memory == ("zero_copy" in target.capabilities.features) == gpu.unified


def test_bfloat_needs_the_language_and_a_gpu_of_family_6() -> None:
    computes = {name: "bfloat16" in target_of(gpu).capabilities.arithmetic for name, gpu in EVERY.items()}
    assert computes == {M1.name: False, M3_MAX.name: True, PARAVIRTUAL.name: False, DISCRETE.name: False}


def test_larger_chips_have_more_cores() -> None:
    assert target_of(M3_MAX).capabilities.cores > target_of(M1).capabilities.cores


def test_a_binary_is_source_and_the_version_of_its_language() -> None:
    toolchain = pickle.loads(pickle.dumps(MetalToolchain(target_of(M1))))
    source = toolchain.render(CASES["matmul"]().program)
    library = read(toolchain.compile(source))
    assert library.language == (3, 0)
    assert library.source == source


def test_kernels_compiled_together_share_a_binary() -> None:
    toolchain = MetalToolchain(target_of(M1))
    sources = [toolchain.render(CASES[name]().program) for name in ("matmul", "strided float32 open")]
    first, second = toolchain.compile_many(sources)
    assert first is second
    source = read(first).source
    assert source.count("#include <metal_stdlib>") == 1
    assert source.count("inline float4 load_float4(device ") == 1
    assert source.count("[[kernel") == 2
    assert toolchain.compile_many([]) == []


@pytest.mark.parametrize("binary", [b"", b"metal3.0\nkernel", seal(b"\x7fELF..."), seal(b"metal3\n")])
def test_what_is_no_binary_is_refused(binary: bytes) -> None:
    with pytest.raises(KernelFault, match="binary"):
        read(binary)


def test_an_error_has_the_log_beside_numbered_lines() -> None:
    error = refused("first\nsecond", "program_source:2:1: error: unknown type name 'second'")
    assert "unknown type name" in str(error)
    assert error.source == "first\nsecond"
    assert "    2  second" in error.log
