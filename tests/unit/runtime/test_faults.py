"""When a run fails, every handle is as it was and can be used again."""
from __future__ import annotations

import gc

import numpy as np
import pytest

from pluggrad import dtypes, runtime
from pluggrad.errors import CompileError, KernelFault, OutOfMemoryError
from pluggrad.graph import build, ops
from pluggrad.graph.leaf import Identity
from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.runtime.loaded import LoadedPlan
from pluggrad.runtime.sessions import session
from tests.unit.runtime.handles import REF, Kept, counting, stored

ERRORS = [KernelFault, KeyboardInterrupt, OutOfMemoryError]


@pytest.fixture
def failing(monkeypatch):
    """`failing(error)`: from now on command lists raise such an error, until `failing(None)`."""
    run = LoadedPlan.run

    def fail(error: type[BaseException] | None) -> None:
        def refuse(*_: object) -> None:
            raise error("no more")

        monkeypatch.setattr(LoadedPlan, "run", run if error is None else refuse)

    return fail


def double(node: Node) -> Node:
    return build.binary(ops.ADD, node, node)


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: e.__name__)
def test_handles_keep_their_graphs(device, error, failing):
    x = counting(5, device)
    one = Kept(double(x))
    three = build.const(3.0, dtypes.float32, device)
    two = Kept(build.reduce(ops.SUM, build.binary(ops.MUL, one.node, three), 0))
    leaf = Kept(build.leaf(double(x), Identity(None)))
    failing(error)
    with pytest.raises(error):
        runtime.realize([one, two, leaf])
    assert leaf.node.op is ops.LEAF
    failing(None)
    runtime.realize([one, two, leaf])
    np.testing.assert_array_equal(runtime.read(one.node), 2 * np.arange(5))
    np.testing.assert_array_equal(runtime.read(two.node), 60)
    np.testing.assert_array_equal(runtime.read(leaf.node), 2 * np.arange(5))


def test_a_failed_value_is_pending_no_longer_but_can_be_asked_for(failing):
    pending, other = Kept(double(counting(5, REF))), Kept(double(stored([1, 2], REF)))
    runtime.add_pending(pending)
    failing(KernelFault)
    with pytest.raises(KernelFault):
        runtime.realize([other])
    failing(None)
    runtime.realize([other])
    assert pending.node.op is not ops.BUFFER
    runtime.realize([pending])
    np.testing.assert_array_equal(runtime.read(pending.node), [0, 2, 4, 6, 8])


def test_what_was_detached_stays_detached(failing):
    weight = Kept(runtime.upload(np.ones(3), dtypes.float32, REF, Identity(None, marked=True)))
    handle = Kept(double(build.detach(double(weight.node))))
    failing(KernelFault)
    with pytest.raises(KernelFault):
        runtime.realize([handle])
    reached = toposort([handle.node], lambda n: () if n.op is ops.DETACH else n.src)
    assert weight.node not in reached
    failing(None)
    np.testing.assert_array_equal(runtime.read(handle.node), [4, 4, 4])


def test_a_compiler_that_refuses_leaves_everything_usable(monkeypatch):
    handle = Kept(build.unary(ops.ERF, stored(np.linspace(0, 1, 771), REF)))
    toolchain = session(REF).toolchain

    def refuse(*_: object) -> None:
        raise CompileError("no", source="code", log="why")

    with monkeypatch.context() as patch:
        patch.setattr("pluggrad.runtime.cache.folder", lambda: None)
        patch.setattr(type(toolchain), "compile_many", refuse)
        with pytest.raises(CompileError):
            runtime.realize([handle])
    assert runtime.read(handle.node)[-1] == pytest.approx(0.8427, abs=1e-4)


def test_what_was_being_overwritten_says_so_from_then_on(device, failing):
    handle = Kept(counting(8, device))
    copy = Kept(double(handle.held))
    runtime.realize([copy])
    seven = build.const(7.0, dtypes.float32, device)
    handle.held = build.update(handle.held, seven, (("slice", ((0, 2, 1),)),))
    failing(KernelFault)
    with pytest.raises(KernelFault, match="no more"):
        runtime.realize([handle])
    failing(None)
    with pytest.raises(KernelFault, match="was being overwritten"):
        runtime.read(handle.node)
    np.testing.assert_array_equal(runtime.read(copy.node), 2 * np.arange(8))  # others are not touched


def test_out_of_memory_says_how_much_and_leaves_handles_usable(monkeypatch):
    x = stored(np.ones((64, 1)), REF)
    handle = Kept(double(build.expand(x, (64, 10007))))
    place = session(REF)
    place.pool.trim()
    alloc = type(place.device.allocator).alloc

    def limited(self: object, nbytes: int, kind: str = "device") -> object:
        if nbytes > 1 << 20:
            raise MemoryError
        return alloc(self, nbytes, kind)

    with monkeypatch.context() as patch:
        patch.setattr(type(place.device.allocator), "alloc", limited)
        with pytest.raises(OutOfMemoryError, match=r"alloc on ref: expected [\d,]+ bytes .*in use.*smaller"):
            runtime.realize([handle])
    runtime.realize([handle])
    assert runtime.read(handle.node).sum() == 2 * 64 * 10007


def test_memory_is_given_back_after_a_failure(failing):
    gc.collect()  # what other tests left in cycles would be given back in between
    used = session(REF).pool.stats.used
    handle = Kept(double(counting(100_000, REF)))
    failing(KernelFault)
    with pytest.raises(KernelFault):
        runtime.realize([handle])
    del handle
    assert session(REF).pool.stats.used == used
