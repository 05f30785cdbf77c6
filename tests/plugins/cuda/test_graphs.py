"""Command lists for replay, as graphs of the double."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad.plugin_api import CopyCommand, FillCommand, OutOfMemoryError, SlotRef, dtypes
from pluggrad_cuda.graphs import waves
from tests.plugins.cuda import lists


@pytest.fixture
def chain(device):
    """out = (x + v0) copied, its first two zeroed, added to again; and blocks to run it on."""
    add = lists.load(device, "add")
    commands = [lists.launch(add, SlotRef(0), SlotRef(1)), CopyCommand(SlotRef(2), SlotRef(0), 64),
                FillCommand(SlotRef(2), 8), lists.launch(add, SlotRef(0), SlotRef(2))]
    return device.prepare(commands, (dtypes.float32,))


def expected(start: float, value: float) -> list[float]:
    result = np.full(16, start + value, np.float32)
    result[:2] = 0
    return (result + value).tolist()


def test_a_list_becomes_a_graph_at_its_second_run(world, device, chain):
    x = lists.filled(device, np.ones(16, np.float32))
    out, between = device.allocator.alloc(64), device.allocator.alloc(64)
    for run in range(5):
        chain([out, x, between], [float(run)])
        assert lists.read(device, out).tolist() == expected(1, run)
    assert world.count("cuGraphInstantiate") == 1
    assert world.count("cuGraphLaunch") == 4
    assert world.count("cuLaunchKernel") == 2  # of the first run


def test_only_nodes_whose_parameters_changed_are_set(world, device, chain):
    x = [lists.filled(device, np.full(16, start, np.float32)) for start in (0.0, 100.0)]
    out = [device.allocator.alloc(64) for _ in range(2)]
    between = [device.allocator.alloc(64) for _ in range(2)]
    chain([out[0], x[0], between[0]], [1.0])
    chain([out[0], x[0], between[0]], [1.0])
    cases = [((0, 0, 0), 1.0, (0, 0, 0)), ((0, 0, 0), 2.0, (2, 0, 0)), ((0, 1, 0), 2.0, (1, 0, 0)),
             ((1, 1, 0), 2.0, (2, 1, 0)), ((1, 1, 1), 2.0, (1, 1, 1)), ((0, 0, 1), -0.0, (2, 1, 0))]
    for (to, source, via), value, counts in cases:
        before = [world.count(f"cuGraphExec{kind}NodeSetParams") for kind in ("Kernel", "Memcpy", "Memset")]
        chain([out[to], x[source], between[via]], [value])
        after = [world.count(f"cuGraphExec{kind}NodeSetParams") for kind in ("Kernel", "Memcpy", "Memset")]
        assert tuple(b - a for a, b in zip(before, after, strict=True)) == counts
        assert lists.read(device, out[to]).tolist() == expected(100.0 * source, value)


def test_runs_in_flight_keep_what_they_were_given(world, device, chain):
    x = lists.filled(device, np.zeros(16, np.float32))
    outs, between = [device.allocator.alloc(64) for _ in range(6)], device.allocator.alloc(64)
    world.held = True
    events = [chain([out, x, between], [float(value)]) for value, out in enumerate(outs)]
    world.held = False
    events[-1].wait()
    for value, out in enumerate(outs):
        assert lists.read(device, out).tolist() == expected(0, value)


def test_independent_launches_have_no_edge_between_them(world, device):
    add = lists.load(device, "add")
    edges = [(1, 0, True), (2, 0, False), (3, 1, True), (4, 2, False)]
    run = device.prepare([lists.launch(add, SlotRef(to), SlotRef(source), barrier=barrier)
                          for to, source, barrier in edges], (dtypes.float32,))
    blocks = [lists.filled(device, np.zeros(16, np.float32)) for _ in range(5)]
    for _ in range(3):  # the double takes the last node first where it may
        run(blocks, [1.0])
    assert [lists.read(device, block)[0] for block in blocks] == [0, 1, 1, 2, 2]
    assert world.count("cuGraphAddEmptyNode") == 1


def test_waves(device):
    add = lists.load(device, "add")
    waits, joins = (lists.launch(add, SlotRef(1), SlotRef(0), barrier=barrier) for barrier in (True, False))
    copy = CopyCommand(SlotRef(0), SlotRef(1), 4)
    assert waves([waits, joins, joins, waits, joins]) == [[0, 1, 2], [3, 4]]
    assert waves([joins, joins]) == [[0, 1]]
    assert waves([waits, copy, joins, joins, copy, copy]) == [[0], [1], [2, 3], [4], [5]]


def test_short_lists_are_launched_one_by_one(world, device):
    add = lists.load(device, "add")
    run = device.prepare([lists.launch(add, SlotRef(1), SlotRef(0))], (dtypes.float32,))
    x, out = (lists.filled(device, np.zeros(16, np.float32)) for _ in range(2))
    for value in range(4):
        run([x, out], [float(value)])
        assert lists.read(device, out)[0] == value
    assert world.count("cuGraphCreate") == 0


def test_graphs_are_destroyed_when_nothing_is_in_flight(world, device):
    x, out = (lists.filled(device, np.zeros(16, np.float32)) for _ in range(2))
    add = lists.load(device, "add")
    run = device.prepare([lists.launch(add, SlotRef(1), SlotRef(0))] * 3, (dtypes.float32,))
    for _ in range(2):
        run([x, out], [1.0])
    world.held = True
    run([x, out], [1.0])
    del run
    world.held = False
    assert world.count("cuGraphExecDestroy") == 0
    device.synchronize()
    assert world.count("cuGraphExecDestroy") == world.count("cuGraphDestroy") == 1


def test_a_graph_that_cannot_be_made_leaves_nothing_behind(world, device, chain):
    blocks = [lists.filled(device, np.zeros(16, np.float32)) for _ in range(3)]
    chain(blocks, [1.0])
    world.fail("cuGraphInstantiate", 2)
    with pytest.raises(OutOfMemoryError, match="cuGraphInstantiateWithFlags"):
        chain(blocks, [1.0])
    chain(blocks, [1.0])
    assert lists.read(device, blocks[0]).tolist() == expected(0, 1)
    assert world.count("cuGraphDestroy") == 1


def test_a_replay_that_goes_on_by_itself_grows_no_memory_of_marks(world, device, chain):
    blocks = [lists.filled(device, np.zeros(16, np.float32)) for _ in range(3)]
    for _ in range(3):
        chain(blocks, [1.0]).wait()
    made = world.count("cuEventCreate")
    for _ in range(20):
        chain(blocks, [1.0]).wait()
    assert world.count("cuEventCreate") == made
