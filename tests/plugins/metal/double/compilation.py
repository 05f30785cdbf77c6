"""Libraries, functions, pipeline states and archives of them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from machine import MACHINE, Error, Object, selector

MTLMathModeSafe = 0
MTLPipelineOptionNone = 0
MTLPipelineOptionFailOnBinaryArchiveMiss = 4

_MAGIC = b"archive of the double\n"
_KERNEL = re.compile(
    r"\[\[kernel, max_total_threads_per_threadgroup\((\d+)\)\]\]\nvoid (\w+)\(\n(.*?)\) \{", re.DOTALL)
_BUFFER = re.compile(r"(device|constant) (const )?(\w+) \*(\w+) \[\[buffer\((\d+)\)\]\]")
_TEXT = "// kernel: "


def embed_kernels() -> None:
    """From here on rendered source has the kernel as a comment, by which the double runs it."""
    from pluggrad.kernel.text import kernel_text
    from pluggrad_metal.render import MetalRenderer

    plain = MetalRenderer.render
    if hasattr(plain, "plain"):
        return

    def render(self: MetalRenderer, program: Any) -> str:
        comment = f"{_TEXT}{json.dumps(kernel_text(program.kernel))}\n"
        return plain(self, program).replace("[[kernel", f"{comment}[[kernel", 1)

    render.plain = plain  # type: ignore[attr-defined]
    MetalRenderer.render = render  # type: ignore[method-assign]


class Argument(NamedTuple):
    """A buffer that a function takes."""

    index: int
    written: bool
    is_values: bool


@dataclass
class Function(Object):
    """A kernel of a library: what it takes, how many threads a group of it has at most, what runs it."""

    name: str
    arguments: tuple[Argument, ...]
    threads: int
    text: str  # of the kernel, "" for one that the plugin has written by hand

    def run(self, buffers: Sequence[np.ndarray], values: bytes) -> None:
        """Run the whole kernel on bytes of its buffers."""
        if not self.text:
            _BY_HAND[self.name](buffers, values)
            return
        from pluggrad.kernel.interpret import compile_kernel
        from pluggrad.kernel.text import parse_kernel

        kernel = parse_kernel(self.text)
        views = [buffer[:param.size * param.dtype.itemsize].view(param.dtype.numpy)
                 for buffer, param in zip(buffers, kernel.arguments, strict=True)]
        scalars = [_scalar(values[8 * i:], dtype) for i, dtype in enumerate(kernel.values)]
        compile_kernel(kernel)(views, scalars)


def _scalar(slot: bytes, dtype: Any) -> Any:
    from pluggrad.kernel import numpy_ops

    element = np.frombuffer(slot, dtype.numpy, 1)
    return (numpy_ops.decode(element, dtype) if dtype.is_float else element)[0].item()


def _count(values: bytes) -> int:
    return int(np.frombuffer(values, np.uint64, 1)[0])


def _copy(buffers: Sequence[np.ndarray], values: bytes) -> None:
    buffers[1][:_count(values)] = buffers[0][:_count(values)]


def _fill(buffers: Sequence[np.ndarray], values: bytes) -> None:
    buffers[0][:_count(values)] = 0


_BY_HAND = {"copy_bytes": _copy, "fill_bytes": _fill}


class MTLCompileOptions(Object):
    """Where no version is set, it is the newest."""

    def __init__(self) -> None:
        self.language = MACHINE.language
        self.precise = False
        if not MACHINE.respects_math_mode:
            self.setMathMode_ = None

    def respondsToSelector_(self, selector: str) -> bool:
        return selector != "setMathMode:" or MACHINE.respects_math_mode

    def languageVersion(self) -> int:
        return self.language[0] << 16 | self.language[1]

    @selector("Q")
    def setLanguageVersion_(self, version: int) -> None:
        self.language = version >> 16, version & 0xFFFF

    @selector("q")
    def setMathMode_(self, mode: int) -> None:
        self.precise = mode == MTLMathModeSafe

    @selector("Z")
    def setFastMathEnabled_(self, enabled: bool) -> None:
        self.precise = not enabled


class Library(Object):
    """The functions of a source."""

    def __init__(self, functions: dict[str, Function]) -> None:
        self.functions = functions

    @selector("@")
    def newFunctionWithName_(self, name: str) -> Function | None:
        return self.functions.get(name)

    @selector(autoreleased=True)
    def functionNames(self) -> list[str]:
        return list(self.functions)


def compile_source(source: str, options: MTLCompileOptions) -> tuple[Library | None, Error | None]:
    """A library; or none, and a log as Metal's compiler writes it."""
    if options.language > MACHINE.language:
        return None, Error("MTLLibraryErrorDomain", 1, "unsupported language version")
    MACHINE.expect(options.precise, "source is compiled with fast math")
    if source.count("{") != source.count("}") or "using namespace metal;" not in source:
        log = "program_source:1:1: error: expected unqualified-id\n"
        return None, Error("MTLLibraryErrorDomain", 3, log)
    functions = {}
    end = 0
    for match in _KERNEL.finditer(source):
        comments = [line for line in source[end:match.start()].splitlines() if line.startswith(_TEXT)]
        text = json.loads(comments[-1].removeprefix(_TEXT)) if comments else ""
        arguments = tuple(Argument(int(index), space == "device" and not const, space == "constant")
                          for space, const, _, _, index in _BUFFER.findall(match[3]))
        functions[match[2]] = Function(match[2], arguments, int(match[1]), text)
        end = match.end()
    warning = Error("MTLLibraryErrorDomain", 4, "program_source:1:1: warning: unused")  # beside a library
    return Library(functions), warning


class MTLComputePipelineDescriptor(Object):
    """What a pipeline state is made from."""

    def __init__(self) -> None:
        self.function: Function | None = None
        self.archives: list[Any] = []

    @selector("@")
    def setLabel_(self, label: str) -> None:
        self.label = label

    @selector("@")
    def setComputeFunction_(self, function: Function) -> None:
        self.function = function

    @selector("@")
    def setBinaryArchives_(self, archives: list[Any]) -> None:
        self.archives = archives


class Pipeline(Object):
    """A function, made ready. compiled: not found in an archive."""

    def __init__(self, function: Function, compiled: bool) -> None:
        self.function, self.compiled = function, compiled

    def maxTotalThreadsPerThreadgroup(self) -> int:
        return self.function.threads


def make_pipeline(descriptor: MTLComputePipelineDescriptor,
                  options: int) -> tuple[Pipeline | None, Error | None]:
    """Out of the descriptor's archives where one has it."""
    function = descriptor.function
    MACHINE.expect(function is not None, "a pipeline descriptor has no function")
    assert function is not None
    found = any(function.name in archive.names for archive in descriptor.archives)
    if options & MTLPipelineOptionFailOnBinaryArchiveMiss and not found:
        return None, Error("MTLBinaryArchiveDomain", 1, "not in the archive")
    if "refused" in function.name:
        return None, Error("CompilerError", 2, "Compiler encountered an internal error")
    return Pipeline(function, compiled=not found), None


class MTLBinaryArchiveDescriptor(Object):
    """Where an archive is read from."""

    def __init__(self) -> None:
        self.url: Any = None

    @selector("@")
    def setUrl_(self, url: Any) -> None:
        self.url = url


class Archive(Object):
    """Names of functions, in place of what a GPU would run."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    @selector("@o")
    def addComputePipelineFunctionsWithDescriptor_error_(
            self, descriptor: Any, error: None) -> tuple[bool, None]:
        self.names.append(descriptor.function.name)
        return True, None

    @selector("@o")
    def serializeToURL_error_(self, url: Any, error: None) -> tuple[bool, None]:
        Path(url.path).write_bytes(_MAGIC + json.dumps(self.names).encode())
        return True, None


def open_archive(descriptor: MTLBinaryArchiveDescriptor) -> tuple[Archive | None, Error | None]:
    """An empty one, or what a file holds."""
    if MACHINE.refuses_archives:
        return None, Error("MTLBinaryArchiveDomain", 3, "not supported")
    if descriptor.url is None:
        return Archive([]), None
    content = Path(descriptor.url.path).read_bytes()
    if not content.startswith(_MAGIC):
        return None, Error("MTLBinaryArchiveDomain", 1, "invalid file")
    return Archive(json.loads(content.removeprefix(_MAGIC))), None
