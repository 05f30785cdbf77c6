"""The toolchain: modules of several kernels, errors, pickling, and architectures that cannot be run here."""
from __future__ import annotations

import pickle
import re
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.errors import CompileError
from pluggrad.lower.program import Program
from pluggrad.target import Capabilities, Target
from pluggrad_cpu import compiler
from pluggrad_cpu.compiler import LLVMToolchain
from pluggrad_cpu.llvm import host_triple

HOST = f"{host_triple()}|{llvm.get_host_cpu_name()}|{llvm.get_host_cpu_features().flatten()}"
ELSEWHERE = {
    "aarch64-linux": ("aarch64-unknown-linux-gnu|generic|", b"\x7fELF"),
    "arm64-macos": ("arm64-apple-darwin|apple-m1|", b"\xcf\xfa\xed\xfe"),
    "x86_64-windows": ("x86_64-pc-windows-msvc|x86-64-v3|", b"\x64\x86"),
    "plain-x86_64": ("x86_64-unknown-linux-gnu|x86-64|", b"\x7fELF"),
    "avx512": ("x86_64-unknown-linux-gnu|x86-64-v4|", b"\x7fELF"),
}
UNARY = ("NEG", "ABS", "RECIP", "SQRT", "EXP", "EXP2", "LOG", "LOG2", "SIN", "COS", "TANH", "ERF", "FLOOR",
         "CEIL", "TRUNC", "ROUND")


def toolchain(arch: str = HOST) -> LLVMToolchain:
    return LLVMToolchain(Target(arch, Capabilities(dtypes=frozenset(), arithmetic=frozenset())))


def unary(program: Any, op: str, source: DType, target: DType, lanes: int = 8) -> Program:
    p = program(op.lower(), tasks=8)
    x, out = p.buffer(source, 8 * lanes), p.buffer(target, 8 * lanes, "out")
    steps = ((p.axis(lanes, vector=True), 1),)
    start = p("MUL", dtypes.int64, p("TASK", dtypes.int64), p.const(lanes))
    p.store(out, start, p(op, target, p.load(x, start, steps)), steps)
    return p.build()


@pytest.mark.parametrize("name", ELSEWHERE)
def test_other_architectures_compile_without_library_calls(program: Any, name: str) -> None:
    """The JIT links nothing but the kernels: whatever LLVM would take from libm or its runtime is missing."""
    arch, magic = ELSEWHERE[name]
    tools = toolchain(arch)
    floats = (dtypes.float32, dtypes.float64)
    programs = [unary(program, op, dtype, dtype) for op in UNARY for dtype in floats]
    programs += [unary(program, "CAST", a, b) for a in dtypes.ALL for b in dtypes.ALL]
    sources = [tools.render(p) for p in programs]
    binary = tools.compile_many(sources)[0]
    assert binary.startswith(magic)
    text = tools.assembly(tools.merged(sources))
    called = set(re.findall(r"\b(?:callq?|bl)\s+_?([A-Za-z_][\w.]*)", text))
    called |= set(re.findall(r"movabsq\s+\$_?([A-Za-z_][\w.]*)", text))
    assert {c for c in called if not c.startswith(("pluggrad.", "_real", "_xmm", "_ymm"))} == set()


@pytest.mark.parametrize(("lengths", "modules"), [
    ([10] * 30, [[*range(30)]]),  # too little for two
    ([9000, 100, 200, 9000], [[0, 2], [1, 3]]),
    ([30_000, 20_000, 10_000, 9_000, 8_000, 7_000], [[0], [1, 5], [2, 3, 4]]),
])
def test_kernels_are_shared_out_among_modules(lengths: list[int], modules: list[list[int]]) -> None:
    assert compiler._modules(["x" * length for length in lengths], 3) == modules


def test_modules_side_by_side_hold_their_kernels(program: Any, run: Any, monkeypatch: Any) -> None:
    kernels = [unary(program, op, dtypes.float32, dtypes.float32) for op in ("EXP", "SIN", "SQRT", "NEG")]
    monkeypatch.setattr(compiler, "_LEAST_TEXT", 1)
    monkeypatch.setattr(compiler, "cores", lambda: 3)
    tools = toolchain()
    binaries = tools.compile_many([tools.render(k) for k in kernels])
    assert len(set(binaries)) == 3
    x = np.linspace(0, 1, 64, dtype="f")
    for kernel, binary, function in zip(kernels, binaries, (np.exp, np.sin, np.sqrt, np.negative)):
        out = np.zeros_like(x)
        run.link(binary, kernel)(x, out)
        np.testing.assert_allclose(out, function(x), rtol=1e-6)


def test_one_module_for_many_kernels(program: Any, run: Any) -> None:
    kernels = [unary(program, op, dtypes.float32, dtypes.float32) for op in ("EXP", "SIN", "EXP", "NEG")]
    tools = toolchain()
    binaries = tools.compile_many([tools.render(k) for k in kernels])
    assert len(binaries) == 4
    assert len(set(map(id, binaries))) == 1
    x = np.linspace(0, 1, 64, dtype="f")
    for kernel, function in zip(kernels, (np.exp, np.sin, np.exp, np.negative)):
        out = np.zeros_like(x)
        run.link(binaries[0], kernel)(x, out)
        np.testing.assert_allclose(out, function(x), rtol=1e-6)
    assert tools.compile_many([]) == []


def test_the_same_program_gives_the_same_binary(program: Any) -> None:
    kernel = unary(program, "TANH", dtypes.float32, dtypes.float32)
    first, second = toolchain(), toolchain()
    assert first.render(kernel) == second.render(kernel)
    assert first.compile(first.render(kernel)) == second.compile(second.render(kernel))


@pytest.mark.parametrize("source", [
    "define void @k() { ret i32 0 }", "not IR at all",
    # what the parser lets through, and would hang: a phi that forgets a predecessor
    "define void @k() {\na:\n  br label %b\nb:\n  %i = phi i64 [ 0, %a ]\n  br label %b\n}"])
def test_wrong_source_is_refused_with_a_log(source: str) -> None:
    with pytest.raises(CompileError) as caught:
        toolchain().compile(source)
    assert caught.value.source == source
    assert caught.value.log


def test_toolchains_are_pickled_and_keyed_by_what_changes_code(program: Any) -> None:
    tools = toolchain()
    tools.compile(tools.render(unary(program, "NEG", dtypes.float32, dtypes.float32)))
    copy = pickle.loads(pickle.dumps(tools))
    assert copy.cache_key == tools.cache_key
    assert copy.compile("define void @k() {\n  ret void\n}")
    assert toolchain(ELSEWHERE["avx512"][0]).cache_key != tools.cache_key
    assert str(llvm.llvm_version_info[0]) in tools.cache_key


def test_binaries_are_not_disassembled(program: Any) -> None:
    with pytest.raises(CompileError, match="does not disassemble"):
        toolchain().disassemble(b"")


def test_wide_registers_are_asked_for_where_there_are_any(program: Any) -> None:
    kernel = unary(program, "NEG", dtypes.float32, dtypes.float32, lanes=16)
    wide, narrow = toolchain(ELSEWHERE["avx512"][0]), toolchain("x86_64-unknown-linux-gnu|x86-64-v3|")
    assert "%zmm" in wide.assembly(wide.render(kernel))
    assert "%zmm" not in narrow.assembly(narrow.render(kernel))
