"""Command lists that run again and again, as CUDA graphs: one launch for all of their commands."""
from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import Final

from pluggrad.plugin_api import Command, Launch, Scalar
from pluggrad_cuda import libcuda
from pluggrad_cuda.launcher import CommandList, LaunchStep, Step
from pluggrad_cuda.memory import Block
from pluggrad_cuda.queue import Queue

_FEWEST: Final = 3  # commands that are worth a graph
_FROM_RUN: Final = 2  # the first run of many a list is its only one, and a graph costs more than a run


class PreparedList(CommandList):
    """A list for replay. From its second run on a graph; what changes between runs is set in its nodes."""

    def __init__(self, commands: Sequence[Command], queue: Queue) -> None:
        super().__init__(commands, queue)
        self._runs = 0
        self._graph: Graph | None = None

    def _enqueue(self, slots: Sequence[Block], values: Sequence[Scalar]) -> None:
        self._runs += 1
        if len(self._steps) < _FEWEST or self._runs < _FROM_RUN:
            super()._enqueue(slots, values)
            return
        changed = [step.bind(slots, values) for step in self._steps]
        if self._graph is None:
            self._graph = Graph(self._steps, waves(self._commands), self._queue)
        else:
            self._graph.update(changed)
        self._graph.launch()


def waves(commands: Sequence[Command]) -> list[list[int]]:
    """The numbers of commands, those together that are independent of each other."""
    result: list[list[int]] = []
    alone = True  # the one before lets nothing run beside it
    for number, command in enumerate(commands):
        waits = not isinstance(command, Launch) or command.barrier
        if waits or alone:
            result.append([])
        result[-1].append(number)
        alone = not isinstance(command, Launch)
    return result


class Graph:
    """The nodes of steps as they are bound, instantiated. The caller of all methods holds the queue."""

    def __init__(self, steps: Sequence[Step], order: Sequence[Sequence[int]], queue: Queue) -> None:
        self._steps, self._queue = steps, queue
        self._context = int(queue.context.handle)
        graph = libcuda.made("cuGraphCreate", 0)
        try:
            self._nodes = self._build(graph, order)
            self._handle = libcuda.made("cuGraphInstantiateWithFlags", graph, 0)
        except BaseException:
            queue.discard("cuGraphDestroy", graph)
            raise
        # the graph names the nodes of what was instantiated from it, and goes after that
        for destroy, handle in (("cuGraphDestroy", graph), ("cuGraphExecDestroy", self._handle)):
            weakref.finalize(self, queue.discard, destroy, handle).atexit = False

    def _build(self, graph: int, order: Sequence[Sequence[int]]) -> list[int]:
        nodes = [0] * len(self._steps)
        before: list[int] = []
        for wave in order:
            if len(before) > 1 and len(wave) > 1:  # as many edges as nodes instead of their product
                before = [libcuda.made("cuGraphAddEmptyNode", graph, libcuda.handles(before), len(before))]
            for number in wave:
                nodes[number] = self._add(graph, before, self._steps[number])
            before = [nodes[number] for number in wave]
        return nodes

    def _add(self, graph: int, before: Sequence[int], step: Step) -> int:
        return libcuda.made(step.add, graph, libcuda.handles(before), len(before), ctypes.byref(step.node),
                            *self._of(step))

    def _of(self, step: Step) -> tuple[int, ...]:
        """A kernel knows its context; copies and fills are told theirs."""
        return () if isinstance(step, LaunchStep) else (self._context,)

    def update(self, changed: Sequence[bool]) -> None:
        """Set the nodes of steps that were bound anew; launches before keep what they had."""
        for step, node, is_changed in zip(self._steps, self._nodes, changed, strict=True):
            if is_changed:
                libcuda.call(step.update, self._handle, node, ctypes.byref(step.node), *self._of(step))

    def launch(self) -> None:
        """Enqueue all of it."""
        libcuda.call("cuGraphLaunch", self._handle, self._queue.handle)
