"""What is stored, what shares a kernel, and in which order regions can run."""
from __future__ import annotations

import cProfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pluggrad import dtypes
from pluggrad.graph import build, ops
from pluggrad.graph.types import tensor_type
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import toposort
from pluggrad.runtime.normalize import normalize, rebuild
from pluggrad.schedule import Region, schedule
from pluggrad.target import DeviceId
from tests.property.random_graphs import Drawn

REF = DeviceId("ref")
F32 = dtypes.float32


def given_input(slot: int, *shape: int) -> Node:
    return node(ops.INPUT, (), slot, tensor_type(shape, F32, REF))


def add(x: Node, y: Node) -> Node:
    return build.binary(ops.ADD, x, y)


def rows(op: object, x: Node) -> Node:
    """Reduced over the last axis, which stays with size 1."""
    return build.reshape(build.reduce(op, x, -1), (*x.shape[:-1], 1))


def check(regions: tuple[Region, ...], roots: list[Node]) -> None:
    """Every root is stored once, and nothing is read before it is there."""
    there: set[Node] = set()
    for region in regions:
        for n in region.reads:
            assert n.op in (ops.INPUT, ops.EMPTY) or n in there, f"{n} is read before it is computed"
        assert not there & set(region.outputs)
        there.update(region.outputs)
        assert region.outputs
        inside = {m.root for m in region.members}
        for m in region.members:
            reached = toposort([m.root], lambda n, region=region: () if n in region.reads else n.src)
            forced = {n for n in reached if n.op in ops.REDUCE or n.op is ops.UPDATE}
            assert forced <= inside | set(region.reads)
    assert {root for root in roots if root.op is not ops.INPUT} <= there


def test_elementwise_chains_are_one_region():
    x, y = given_input(0, 9, 7), given_input(1, 9, 7)
    root = build.unary(ops.NEG, add(build.unary(ops.EXP, x), y))
    (region,) = schedule([root])
    assert (region.outer, region.outputs, set(region.reads)) == ((9, 7), (root,), {x, y})


def test_movement_is_never_stored():
    x = given_input(0, 8, 6)
    root = add(build.permute(build.reshape(x, (6, 8)), (1, 0)), build.flip(build.reshape(x, (8, 6)), (0,)))
    (region,) = schedule([root])
    assert len(region.members) == 1


def test_a_softmax_is_one_region():
    x = given_input(0, 512, 33)
    powers = build.unary(ops.EXP, build.binary(ops.SUB, x, rows(ops.RMAX, x)))
    root = build.binary(ops.DIV, powers, rows(ops.SUM, powers))
    (region,) = schedule([root])
    assert [m.root.op for m in region.members] == [ops.RMAX, ops.SUM, ops.DIV]
    assert (region.outer, region.outputs) == ((512,), (root,))


def test_outputs_over_the_same_elements_share_a_region():
    x = given_input(0, 64, 64)
    one, two = build.unary(ops.EXP, x), build.unary(ops.NEG, x)
    (region,) = schedule([one, two])
    assert set(region.outputs) == {one, two}


def test_a_reduction_read_in_another_order_is_stored():
    x = given_input(0, 16, 16)
    total = build.reduce(ops.SUM, x, 1)
    root = build.flip(total, (0,))
    regions = schedule([add(root, root)])
    assert [r.outputs[0].op for r in regions] == [ops.SUM, ops.ADD]


def test_contiguous_is_stored():
    x = given_input(0, 5)
    kept = build.contiguous(build.unary(ops.EXP, x))
    regions = schedule([add(build.flip(kept, (0,)), kept)])
    check(regions, [])
    assert kept in regions[0].outputs


def test_a_write_comes_after_what_it_writes_into():
    """Its base is computed by a region of its own, though the write reads no element of it."""
    x = given_input(0, 61, 61)
    base = build.unary(ops.EXP, build.contiguous(build.flip(build.unary(ops.NEG, x), (0,))))
    root = build.update(base, given_input(1, 2, 61), (("slice", ((0, 2, 1), (0, 61, 1))),))
    regions = schedule([root])
    check(regions, [root])
    assert regions[-1].outputs == (root,)


def test_what_reads_a_part_of_a_write_is_no_part_of_its_region():
    base = given_input(0, 1)
    written = build.update(base, given_input(1, 1, 1), (("reshape", (1, 1)),))
    reader = build.reduce(ops.SUM, add(written, written), 0)
    check(schedule([reader, written]), [reader, written])


def test_two_regions_never_wait_for_each_other():
    """x -> a -> b and x -> b': joining the ends of both would need each before the other."""
    x = given_input(0, 32, 32)
    a = build.reduce(ops.SUM, x, 1)
    b = build.reduce(ops.SUM, add(x, build.reshape(build.flip(a, (0,)), (32, 1))), 1)
    c = add(a, build.flip(b, (0,)))
    check(schedule([c, a, b]), [c, a, b])


def test_who_waits_for_a_region_waits_for_what_joins_it():
    """`x` joins `d`, for which `e` waits already, and reads `p`: what reads `e` cannot join `p`."""
    a, b = given_input(0, 1 << 17, 16), given_input(1, 1 << 17, 16)
    d, p = build.reduce(ops.SUM, b, 1), build.reduce(ops.SUM, a, 0)
    e = build.reduce(ops.RMAX, d, 0)
    spread = build.expand(build.reshape(d, (1 << 17, 1)), b.shape)
    x = build.binary(ops.MUL, spread, build.expand(build.reshape(p, (1, 16)), b.shape))
    y = build.binary(ops.SUB, p, build.expand(build.reshape(e, (1,)), (16,)))
    regions = schedule([e, x, y])
    check(regions, [e, x, y])


def test_a_long_chain_is_cut_into_equal_pieces():
    n = given_input(0, 16)
    for _ in range(20_000):
        n = build.unary(ops.SIN, n)
    regions = schedule([n])
    assert 2 < len(regions) < 2000
    check(regions, [n])
    sizes = [len(toposort(r.outputs, lambda m, r=r: () if m in r.reads else m.src)) for r in regions]
    assert len(set(sizes[:-1])) == 1


@pytest.mark.parametrize("length", [100, 150, 250, 300])
def test_a_long_chain_is_cut_before_a_matmul_repeats_it(length):
    x, y = given_input(0, 16, 16), given_input(1, 16, 16)
    for _ in range(length):
        x, y = build.unary(ops.SIN, x), build.unary(ops.SIN, y)
    left, right = build.reshape(x, (16, 1, 16)), build.reshape(y, (1, 16, 16))
    spread = [build.expand(part, (16, 16, 16)) for part in (left, right)]
    root = build.reduce(ops.SUM, build.binary(ops.MUL, *spread), 2)
    regions = schedule([root])
    check(regions, [root])
    assert {member.root.type.size for region in regions for member in region.members} == {16 * 16}


def test_work_grows_with_the_number_of_regions_and_not_of_pairs():
    def calls(number: int) -> int:
        roots = [build.reduce(ops.SUM, given_input(slot, 4, 5), 1) for slot in range(number)]
        profile = cProfile.Profile()
        regions = profile.runcall(schedule, roots)
        assert len(regions) == number
        return sum(entry.callcount for entry in profile.getstats())

    assert calls(400) < 5 * calls(100)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_random_graphs(data):
    drawn = Drawn(data.draw, (REF,), 1 << 12)
    drawn.values.append(drawn.new_leaf())
    for _ in range(drawn.number(1, 20)):
        drawn.step()
    roots = [drawn.any().nodes[0] for _ in range(drawn.number(1, 4))]
    rebuilt = [n for n in rebuild(normalize(roots)) if n.type.size]
    check(schedule(rebuilt), rebuilt)


def test_nothing_wanted_is_nothing_scheduled():
    assert schedule([]) == ()
    assert schedule([given_input(0, 3)]) == ()


def test_a_reshape_is_stored_with_what_it_reshapes():
    x = given_input(0, 64, 8, 2)
    largest = build.reduce(ops.RMAX, x, 2)
    spread = build.expand(build.reshape(largest, (64, 8, 1)), x.shape)
    y = build.reshape(build.binary(ops.SUB, x, spread), (64, 16))
    regions = schedule([y])
    check(regions, [y])
    assert len(regions) == 1
    assert regions[0].outputs == (y,)


def test_an_end_behind_a_reshape_joins_the_sum_that_it_reads():
    """As the output of a convolution in groups: channels are groups by channels of each."""
    total = build.reduce(ops.SUM, given_input(0, 16, 4, 8, 33), 3)
    bias = build.expand(build.reshape(given_input(1, 32), (1, 32)), (16, 32))
    root = build.unary(ops.EXP, add(build.reshape(total, (16, 32)), bias))
    regions = schedule([root])
    check(regions, [root])
    assert [(region.outer, region.outputs) for region in regions] == [((16, 4, 8), (root,))]


def test_a_reshaped_member_is_found_by_its_readers():
    x = given_input(0, 64, 8, 2)
    y = build.reshape(build.unary(ops.EXP, x), (64, 16))
    z = add(y, y)
    regions = schedule([y, z])
    check(regions, [y, z])


# ---- devices whose kernels take few buffers --------------------------------------------------------------


def buffers(region: Region) -> int:
    return len(set(region.reads) | {member.root for member in region.members})


@pytest.mark.parametrize("most", [5, 8, 31])
@pytest.mark.parametrize("balanced", [False, True], ids=["chain", "tree"])
def test_sums_of_many_inputs_are_cut(most, balanced):
    terms = [given_input(slot, 40) for slot in range(100)]
    total = [build.expand(build.reshape(terms[0], (1, 40)), (3, 40))]
    total += [build.expand(build.reshape(term, (1, 40)), (3, 40)) for term in terms[1:]]
    while len(total) > 1:
        total = [*total[2:], add(*total[:2])] if balanced else [add(*total[:2]), *total[2:]]
    assert len(schedule(total)) == 1
    regions = schedule(total, most)
    check(regions, total)
    assert max(map(buffers, regions)) < most
    assert len(regions) <= 2 * -(-len(terms) // (most - 3))


def test_regions_are_joined_only_as_far_as_their_buffers_allow():
    x = given_input(0, 64, 32)
    roots = [add(x, given_input(slot, 64, 32)) for slot in range(1, 9)]
    assert len(schedule(roots)) == 1
    regions = schedule(roots, 10)
    check(regions, roots)
    assert 1 < len(regions) < len(roots)
    assert max(map(buffers, regions)) < 10
