"""Double of the driver's library: entry points that ctypes calls as it would call those of libcuda.so.1.

What each takes is written here again, from cuda.h, in ctypes' words: values go through a C calling convention
on their way, and structures are read from memory.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import CFUNCTYPE, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_ulonglong, c_void_p
from types import SimpleNamespace
from typing import Any

from tests.plugins.cuda.double.kernels import ENCODED, Image, Loaded, TensorMap
from tests.plugins.cuda.double.world import STATUS, Failed, Work, World

_ALWAYS_SHARED = 48 << 10
_POINTERS = {"out": c_void_p, "handle": c_void_p, "struct": c_void_p, "text": c_char_p, "image": c_void_p}
_NUMBERS = {"int": c_int, "uint": c_uint, "size": c_size_t, "address": c_uint64, "flags": c_ulonglong}
_TYPES = _POINTERS | _NUMBERS
SIGNATURES = {
    "cuModuleLoadData": "out image",
    "cuModuleUnload": "handle",
    "cuModuleGetFunction": "out handle text",
    "cuFuncGetAttribute": "out int handle",
    "cuFuncSetAttribute": "handle int int",
    "cuLaunchKernel": "handle uint uint uint uint uint uint uint handle struct struct",
    "cuTensorMapEncodeTiled": "struct int uint address struct struct struct struct int int int int",
    "cuMemcpyPeerAsync": "address handle address handle size handle",
    "cuGraphCreate": "out uint",
    "cuGraphAddKernelNode_v2": "out handle struct size struct",
    "cuGraphAddMemcpyNode": "out handle struct size struct handle",
    "cuGraphAddMemsetNode": "out handle struct size struct handle",
    "cuGraphAddEmptyNode": "out handle struct size",
    "cuGraphInstantiateWithFlags": "out handle flags",
    "cuGraphExecKernelNodeSetParams_v2": "handle handle struct",
    "cuGraphExecMemcpyNodeSetParams": "handle handle struct handle",
    "cuGraphExecMemsetNodeSetParams": "handle handle struct handle",
    "cuGraphLaunch": "handle handle",
    "cuGraphExecDestroy": "handle",
    "cuGraphDestroy": "handle",
}


class Module:
    def __init__(self, gpu: Any, image: Image) -> None:
        self.gpu, self.image, self.loaded = gpu, image, True


class Function:
    def __init__(self, module: Module, kernel: Loaded) -> None:
        self.module, self.kernel = module, kernel
        self.dynamic_limit = _ALWAYS_SHARED


class Node:
    """`work` makes what it does from its parameters as they are now."""

    def __init__(self, before: list[Node], kind: str, work: Work | None) -> None:
        self.before, self.kind, self.work = before, kind, work


class Graph:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.destroyed = False


class Executable:
    def __init__(self, graph: Graph, gpu: Any) -> None:
        self.graph, self.gpu, self.destroyed = graph, gpu, False
        self.work = {node: node.work for node in graph.nodes}


def _put(out: int, value: int) -> None:
    c_void_p.from_address(out).value = value


def _word(address: int, offset: int, kind: Any) -> Any:
    return kind.from_address(address + offset).value


class _KernelParameters:
    """CUDA_KERNEL_NODE_PARAMS_v2, by the offsets that a 64-bit compiler gives its members."""

    def __init__(self, at: int) -> None:
        self.function = _word(at, 0, c_void_p)
        self.grid = tuple(_word(at, 8 + 4 * i, c_uint) for i in range(3))
        self.block = tuple(_word(at, 20 + 4 * i, c_uint) for i in range(3))
        self.shared = _word(at, 32, c_uint)
        self.parameters, self.extra = _word(at, 40, c_void_p), _word(at, 48, c_void_p)
        self.kernel, self.context = _word(at, 56, c_void_p), _word(at, 64, c_void_p)


class _CopyParameters:
    """CUDA_MEMCPY3D, likewise."""

    def __init__(self, at: int) -> None:
        self.source_kind, self.source = _word(at, 32, c_uint), _word(at, 48, c_uint64)
        self.target_kind, self.target = _word(at, 120, c_uint), _word(at, 136, c_uint64)
        self.width, self.height, self.depth = (_word(at, 176 + 8 * i, c_size_t) for i in range(3))
        # offsets, levels of detail, host pointers, arrays, pitches: nothing is said about them
        self.others = [_word(at, offset, c_uint64) for offset in range(0, 200, 8)
                       if offset not in (32, 48, 120, 136, 176, 184, 192)]


class _FillParameters:
    """CUDA_MEMSET_NODE_PARAMS, likewise."""

    def __init__(self, at: int) -> None:
        self.target, self.value = _word(at, 0, c_uint64), _word(at, 16, c_uint)
        self.element = _word(at, 20, c_uint)
        self.width, self.height = _word(at, 24, c_size_t), _word(at, 32, c_size_t)


class Library:
    """The entry points on a world."""

    def __init__(self, world: World) -> None:
        self.world = world

    # ---- modules and launches ------------------------------------------------------------------------------
    def cuModuleLoadData(self, out, image) -> None:
        gpu = self.world.here("cuModuleLoadData")
        read = Image.at(image)
        if read is None:
            raise Failed(200)
        if read.capability[0] != gpu.capability[0] or read.capability[1] > gpu.capability[1]:
            raise Failed(209)
        if read.toolkit[0] > self.world.driver_version // 1000:
            raise Failed(200)
        _put(out, self.world.handle(Module(gpu, read)))

    def cuModuleUnload(self, module) -> None:
        found = self.world.thing(module, Module)
        self.world.enter("cuModuleUnload", found.gpu)
        if any(stream.pending for stream in self.world.streams if stream.gpu is found.gpu):
            self.world.violate("a module was unloaded while work was in flight")
        found.loaded = False
        del self.world.handles[module]

    def cuModuleGetFunction(self, out, module, name) -> None:
        found = self.world.thing(module, Module)
        self.world.enter("cuModuleGetFunction", found.gpu)
        kernel = found.image.kernels.get(name.decode())
        if kernel is None:
            raise Failed(500)
        _put(out, self.world.handle(Function(found, kernel)))

    def cuFuncGetAttribute(self, out, attribute, function) -> None:
        found = self.world.thing(function, Function)
        self.world.here("cuFuncGetAttribute")
        if attribute != 1:
            raise Failed(1)
        c_int.from_address(out).value = found.kernel.static_shared

    def cuFuncSetAttribute(self, function, attribute, value) -> None:
        found = self.world.thing(function, Function)
        gpu = self.world.here("cuFuncSetAttribute")
        most = gpu.attributes.get("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN", 227 << 10)
        if attribute != 8 or value + found.kernel.static_shared > most:
            raise Failed(1)
        found.dynamic_limit = value

    def cuLaunchKernel(self, function, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra) -> None:
        queue = self._stream(stream, "cuLaunchKernel")
        if extra:
            self.world.violate("cuLaunchKernel with `extra`")
        grid, block = (gx, gy, gz), (bx, by, bz)
        queue.pending.append(self._kernel(function, grid, block, shared, parameters, queue.gpu))

    def _kernel(self, function: int, grid: Any, block: Any, shared: int, parameters: int, gpu: Any) -> Work:
        found = self.world.thing(function, Function)
        if not found.module.loaded or found.module.gpu is not gpu:
            self.world.violate("a kernel of a module that is not loaded on this device")
            raise Failed(400)
        if shared > found.dynamic_limit:
            raise Failed(1)
        return found.kernel.bind(self.world, gpu, grid, block, shared, parameters)

    def _stream(self, handle: int, call: str) -> Any:
        gpu = self.world.here(call)
        for stream in self.world.streams:
            if stream.handle == handle:
                if stream.gpu is not gpu:
                    self.world.violate(f"{call} in a stream of another device")
                return stream
        self.world.violate(f"{call} in no stream")
        raise Failed(400)

    def cuTensorMapEncodeTiled(self, out, kind, rank, address, extents, strides, box, every, interleave,
                               swizzle, promotion, fill) -> None:
        self.world.here("cuTensorMapEncodeTiled")
        told = TensorMap(
            kind, address, tuple(_word(extents, 8 * i, c_uint64) for i in range(rank)),
            tuple(_word(strides, 8 * i, c_uint64) for i in range(rank - 1)),
            tuple(_word(box, 4 * i, c_uint) for i in range(rank)),
            tuple(_word(every, 4 * i, c_uint) for i in range(rank)), (interleave, swizzle, promotion, fill))
        if out % 64 or not told.is_valid:
            raise Failed(1)
        self.world.maps.append(told)
        for i in range(16):
            c_uint64.from_address(out + 8 * i).value = ENCODED + len(self.world.maps) - 1

    def cuMemcpyPeerAsync(self, target, target_context, source, source_context, nbytes, stream) -> None:
        queue = self._stream(stream, "cuMemcpyPeerAsync")
        for context, address in ((target_context, target), (source_context, source)):
            if self.world.handles[context].gpu.index != (address >> 40) - 1:
                self.world.violate("cuMemcpyPeerAsync with an address of another device than the context's")

        def copy() -> None:
            self.world.memory(target, nbytes)[:] = self.world.memory(source, nbytes)
        queue.pending.append(Work(copy, ((target, nbytes), (source, nbytes))))

    # ---- graphs --------------------------------------------------------------------------------------------
    def cuGraphCreate(self, out, flags) -> None:
        self.world.here("cuGraphCreate")
        _put(out, self.world.handle(Graph()))

    def _add(self, call: str, out: int, graph: int, before: int, count: int, kind: str, work: Any) -> None:
        self.world.here(call)
        found = self.world.thing(graph, Graph)
        names = [_word(before, 8 * i, c_void_p) for i in range(count)]
        earlier = [self.world.thing(name, Node) for name in names]
        if any(node not in found.nodes for node in earlier):
            self.world.violate(f"{call} behind a node of another graph")
        node = Node(earlier, kind, work() if work else None)
        found.nodes.append(node)
        _put(out, self.world.handle(node))

    def cuGraphAddKernelNode_v2(self, out, graph, before, count, parameters) -> None:
        self._add("cuGraphAddKernelNode", out, graph, before, count, "kernel",
                  lambda: self._kernel_work(parameters))

    def cuGraphAddMemcpyNode(self, out, graph, before, count, parameters, context) -> None:
        self._add("cuGraphAddMemcpyNode", out, graph, before, count, "copy",
                  lambda: self._copy_work(parameters, context))

    def cuGraphAddMemsetNode(self, out, graph, before, count, parameters, context) -> None:
        self._add("cuGraphAddMemsetNode", out, graph, before, count, "fill",
                  lambda: self._fill_work(parameters, context))

    def cuGraphAddEmptyNode(self, out, graph, before, count) -> None:
        self._add("cuGraphAddEmptyNode", out, graph, before, count, "empty", None)

    def _kernel_work(self, at: int) -> Work:
        read = _KernelParameters(at)
        if read.extra or read.kernel:
            self.world.violate("a kernel node with `extra` or `kern`")
        return self._kernel(read.function, read.grid, read.block, read.shared, read.parameters,
                            self.world.current().gpu)

    def _context_is_current(self, context: int) -> None:
        if self.world.handles.get(context) is not self.world.current():
            self.world.violate("a node with another context")

    def _copy_work(self, at: int, context: int) -> Work:
        self._context_is_current(context)
        p = _CopyParameters(at)
        if (p.source_kind, p.target_kind, p.height, p.depth) != (2, 2, 1, 1) or any(p.others) or not p.width:
            self.world.violate("a copy node that is not from device to device in one dimension")
            raise Failed(1)

        def copy() -> None:
            self.world.memory(p.target, p.width)[:] = self.world.memory(p.source, p.width).copy()
        return Work(copy, ((p.target, p.width), (p.source, p.width)))

    def _fill_work(self, at: int, context: int) -> Work:
        self._context_is_current(context)
        p = _FillParameters(at)
        if p.element != 1 or p.height != 1 or not p.width or p.value > 255:
            self.world.violate("a fill node that is not of bytes in one dimension")
            raise Failed(1)

        def fill() -> None:
            self.world.memory(p.target, p.width)[:] = p.value
        return Work(fill, ((p.target, p.width),))

    def cuGraphInstantiateWithFlags(self, out, graph, flags) -> None:
        gpu = self.world.here("cuGraphInstantiate")
        _put(out, self.world.handle(Executable(self.world.thing(graph, Graph), gpu)))

    def _update(self, call: str, executable: int, node: int, kind: str, work: Callable[[], Work]) -> None:
        self.world.here(call)
        found, which = self.world.thing(executable, Executable), self.world.thing(node, Node)
        if which not in found.work or which.kind != kind:
            self.world.violate(f"{call} of a node of another graph, or of another kind")
            raise Failed(1)
        found.work[which] = work()

    def cuGraphExecKernelNodeSetParams_v2(self, executable, node, parameters) -> None:
        self._update("cuGraphExecKernelNodeSetParams", executable, node, "kernel",
                     lambda: self._kernel_work(parameters))

    def cuGraphExecMemcpyNodeSetParams(self, executable, node, parameters, context) -> None:
        self._update("cuGraphExecMemcpyNodeSetParams", executable, node, "copy",
                     lambda: self._copy_work(parameters, context))

    def cuGraphExecMemsetNodeSetParams(self, executable, node, parameters, context) -> None:
        self._update("cuGraphExecMemsetNodeSetParams", executable, node, "fill",
                     lambda: self._fill_work(parameters, context))

    def cuGraphLaunch(self, executable, stream) -> None:
        found = self.world.thing(executable, Executable)
        queue = self._stream(stream, "cuGraphLaunch")
        # an order that the edges allow, and as far from that of the nodes as they allow
        done: set[Node] = set()
        left = list(reversed(found.graph.nodes))
        while left:
            node = next(n for n in left if all(b in done for b in n.before))
            left.remove(node)
            done.add(node)
            if found.work[node] is not None:
                queue.pending.append(found.work[node])

    def cuGraphExecDestroy(self, executable) -> None:
        self.world.here("cuGraphExecDestroy")
        self.world.thing(executable, Executable).destroyed = True
        del self.world.handles[executable]

    def cuGraphDestroy(self, graph) -> None:
        self.world.here("cuGraphDestroy")
        self.world.thing(graph, Graph).destroyed = True
        del self.world.handles[graph]


def make(world: World) -> SimpleNamespace:
    """What `ctypes.CDLL` would give: functions of C."""
    library, functions = Library(world), {}
    for name in (name for name in dir(Library) if name.startswith("cu")):
        functions[name] = _exported(world, getattr(library, name))
    for place, name in enumerate(("cuGetErrorName", "cuGetErrorString")):
        texts = {code: ctypes.create_string_buffer(pair[place].encode()) for code, pair in STATUS.items()}
        functions[name] = CFUNCTYPE(c_int, c_int, c_void_p)(_teller(texts))
    return SimpleNamespace(**functions)


def _teller(texts: dict[int, Any]) -> Callable[[int, int], int]:
    def tell(code: int, out: int) -> int:
        if code not in texts:
            return 1
        _put(out, ctypes.addressof(texts[code]))
        return 0
    return tell


def _exported(world: World, method: Any) -> Any:
    def entry(*arguments: Any) -> int:
        try:
            method(*arguments)
        except Failed as error:
            return error.code
        except Exception as error:
            world.violate(f"{method.__name__}: {type(error).__name__}: {error}")
            return 999
        return 0
    kinds = SIGNATURES[method.__name__].split()
    return CFUNCTYPE(c_int, *[_TYPES[kind] for kind in kinds])(entry)
