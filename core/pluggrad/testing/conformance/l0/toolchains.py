"""The toolchain: renders and compiles in a process that opened nothing, the same way every time."""
from __future__ import annotations

import pickle

import numpy as np

from pluggrad.device.contract import Toolchain
from pluggrad.errors import CompileError
from pluggrad.kernel.kernel import Kernel
from pluggrad.kernel.text import kernel_text, parse_kernel
from pluggrad.lower import lower
from pluggrad.target import Target
from pluggrad.testing.conformance.fresh import in_fresh_process
from pluggrad.testing.conformance.kernels import affine
from pluggrad.testing.conformance.mismatch import Mismatch, expect
from pluggrad.testing.conformance.registry import conformance
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject
from pluggrad.tune import tune

NEEDS = requires(dtype="int32")
BAD_SOURCE = "this is no kernel } ) 1 +"


def made(toolchain: Toolchain, target: Target, text: str) -> tuple[str, bytes]:
    """Source and binary of a tuned kernel, given as text."""
    source = toolchain.render(lower(parse_kernel(text), target))
    return source, toolchain.compile(source)


def _tuned(subject: Subject, size: int = 100) -> Kernel:
    return tune(affine(size), subject.capabilities).phases[0].kernel


@conformance("L0", "toolchain/picklable", requires=NEEDS,
             suggests="the toolchain holds a handle, or leaves something out of its pickled state")
def picklable(subject: Subject) -> None:
    copy = pickle.loads(pickle.dumps(subject.toolchain))
    text = kernel_text(_tuned(subject))
    want, _ = made(subject.toolchain, subject.target, text)
    have, _ = made(copy, subject.target, text)
    expect(have == want, "a pickled toolchain renders something else", expected=want, got=have)
    expect(copy.cache_key == subject.toolchain.cache_key, "a pickled toolchain has another cache key",
           expected=subject.toolchain.cache_key, got=copy.cache_key)


@conformance("L0", "toolchain/works-without-the-device", requires=NEEDS,
             suggests="rendering or compiling needs an open device: a toolchain works from the target alone")
def works_without_the_device(subject: Subject) -> None:
    kernel = _tuned(subject)
    arguments = (subject.toolchain, subject.target, kernel_text(kernel))
    source, _ = made(*arguments)
    there, binary = in_fresh_process(made, *arguments, hash_seed=7)
    expect(there == source, "another process renders another source", expected=source, got=there)
    data = np.arange(100, dtype=np.int32)
    out = subject.run_binary(binary, kernel, [np.zeros(100, np.int32), data], (2, 1))[0]
    subject.expect(out, data * 2 + 1, "int32", op="launch",
                   suggests="a binary that was made in another process does not work here")


@conformance("L0", "toolchain/renders-the-same-twice", requires=NEEDS,
             suggests="the source depends on addresses, hashes, or counters")
def renders_the_same_twice(subject: Subject) -> None:
    kernel = _tuned(subject)
    first, again = (subject.toolchain.render(lower(kernel, subject.target)) for _ in range(2))
    expect(first == again, "rendering twice gives different sources", expected=first, got=again)


@conformance("L0", "toolchain/cache-key", suggests="the cache key is not text")
def cache_key(subject: Subject) -> None:
    key = subject.toolchain.cache_key
    expect(isinstance(key, str), "Toolchain.cache_key", expected="text; empty for: never cache",
           got=repr(key))


@conformance("L0", "toolchain/compile-many", requires=NEEDS,
             suggests="compile_many() mixes kernels up, or their symbols collide")
def compile_many(subject: Subject) -> None:
    kernels = [_tuned(subject, size) for size in (3, 50, 1000)]
    sources = [subject.toolchain.render(lower(kernel, subject.target)) for kernel in kernels]
    binaries = subject.toolchain.compile_many(sources)
    expect(len(binaries) == len(sources), "compile_many()", expected=f"{len(sources)} binaries",
           got=str(len(binaries)))
    expect(list(subject.toolchain.compile_many([])) == [], "compile_many([])", expected="no binaries")
    for kernel, binary in zip(kernels, binaries, strict=True):
        size = kernel.buffers[0].size
        data = np.arange(size, dtype=np.int32)
        out = subject.run_binary(binary, kernel, [np.zeros(size, np.int32), data], (1, size))[0]
        subject.expect(out, data + size, "int32", op=f"launch of {size}")


@conformance("L0", "toolchain/bad-source", suggests="a wrong source is not refused as it should be")
def bad_source(subject: Subject) -> None:
    for compiled in (subject.toolchain.compile, lambda source: subject.toolchain.compile_many([source])):
        try:
            compiled(BAD_SOURCE)
        except CompileError as error:
            expect(BAD_SOURCE in error.source, "CompileError.source", expected="the source that was refused",
                   got=repr(error.source))
            expect(error.log.strip(), "CompileError.log", expected="what the compiler said", got="nothing")
            continue
        except Exception as error:
            raise Mismatch("compiling a wrong source", expected="CompileError(source, log)",
                           got=f"{type(error).__name__}: {error}") from error
        raise Mismatch("compiling a wrong source", expected="CompileError(source, log)", got="a binary")


@conformance("L0", "toolchain/disassemble", requires=NEEDS,
             suggests="disassemble() fails otherwise than by CompileError")
def disassemble(subject: Subject) -> None:
    _, binary = made(subject.toolchain, subject.target, kernel_text(_tuned(subject)))
    try:
        text = subject.toolchain.disassemble(binary)
    except CompileError:
        return
    expect(text.strip(), "disassemble()", expected="text, or CompileError", got=repr(text))
