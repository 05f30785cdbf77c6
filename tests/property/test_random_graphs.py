"""Random graphs give on every device, and across them, what an independent NumPy evaluation gives."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pluggrad import dtypes, runtime
from pluggrad.ir.node import Node
from pluggrad.runtime import Handle
from pluggrad.target import DeviceId
from tests.graph_reference import evaluate
from tests.property.random_graphs import Drawn, Value


class Kept(Handle):
    """A handle and nothing else."""

    __slots__ = ("held",)

    def __init__(self, node: Node) -> None:
        self.held = node

    @property
    def node(self) -> Node:
        return self.held

    def rebind(self, leaf: Node) -> None:
        self.held = leaf


def host(value: np.ndarray, dtype: dtypes.DType) -> np.ndarray:
    """Storage as numbers: bfloat16 as float32."""
    return (value.astype(np.uint32) << 16).view(np.float32) if dtype is dtypes.bfloat16 else value


def check(value: Value, expected: np.ndarray, actual: np.ndarray, where: DeviceId) -> None:
    note = f"{value.nodes[0]} on {where}"
    if value.error == 0.0:
        np.testing.assert_array_equal(actual, expected, note)
        return
    wide = [np.asarray(array, np.float64) for array in (actual, expected)]
    np.testing.assert_allclose(*wide, 0, 2 * value.error, err_msg=note)


def check_graph(draw: Callable, devices: tuple[DeviceId, ...]) -> None:
    """Draw a graph and compare its values on each device; the devices take values from each other."""
    drawn = Drawn(draw, devices)
    drawn.values.append(drawn.new_leaf())
    for _ in range(drawn.number(1, 14)):
        drawn.step()
    roots = [drawn.values[-1], *[drawn.any() for _ in range(drawn.number(0, 3))]]
    expected = [evaluate(root.nodes[0], drawn.buffers.__getitem__) for root in roots]
    for number, device in enumerate(drawn.devices):
        handles = [Kept(root.nodes[number]) for root in roots]
        runtime.realize(handles)
        for root, handle, value in zip(roots, handles, expected, strict=True):
            check(root, value, host(runtime.read(handle.node), root.dtype), device)
    for node, before in drawn.buffers.items():
        np.testing.assert_array_equal(host(runtime.read(node), node.dtype), before)


def test_random_graphs_agree_with_numpy(side_by_side: tuple[str, ...]) -> None:
    devices = tuple([DeviceId.parse(name) for name in side_by_side])
    examples = 200 if len(devices) < 3 else 40  # the third is one whose kernels take long to compile

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def agree(data: st.DataObject) -> None:
        check_graph(data.draw, devices)

    agree()
