"""Regions -> Plan: kernels are built and tuned, buffers get places, writes go in place where they may."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from pluggrad.config import VERIFY
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node
from pluggrad.kernel.build import Built, build
from pluggrad.kernel.cost import Cost, cost, estimate_us
from pluggrad.kernel.grammar import verify_kernel
from pluggrad.kernel.kernel import NO_CHECK, IndexCheck, Kernel
from pluggrad.kernel.offer import Claim, Extern
from pluggrad.plan.inplace import overwrite
from pluggrad.plan.memory import Lifetime, lay_out
from pluggrad.plan.order import barriers
from pluggrad.plan.plan import BufferRef, Plan, PlannedCommand, PlannedCopy, PlannedLaunch, PlannedOutput
from pluggrad.schedule import Region, schedule
from pluggrad.target import Capabilities
from pluggrad.tune import Tuned, tune

Tune = Callable[[Kernel, Capabilities, Claim | None], Tuned]


@dataclass(slots=True)
class _Buffer:
    """A buffer of the plan: an input, an output, status words, or a temporary.

    reuses: the input that it overwrites. status: the first of its status words.
    """

    nbytes: int
    input: int | None = None
    output: int | None = None
    reuses: int | None = None
    status: int | None = None


@dataclass(slots=True)
class _Draft:
    """A command in the making, its buffers by number."""

    reads: set[int]
    writes: set[int]
    kernel: int | None = None
    args: list[int] = field(default_factory=list)
    values: tuple[int, ...] = ()
    work_us: float = 0.0


def build_plan(roots: Sequence[Node], donated: Sequence[int | None], capabilities: Capabilities,
               claim: Claim | None = None, tuned: Tune = tune) -> Plan:
    """The plan that computes `roots`. Root i may take over the memory of input `donated[i]`, if not None.

    claim: asked for each kernel whether the backend brings code of its own for it. tuned: gives each kernel
    its schedule.
    """
    planner = _Planner(roots, donated, capabilities, claim, tuned)
    regions = schedule([r for r in roots if r.type.size], capabilities.max_buffers, capabilities.online,
                       capabilities.narrow_factors)
    for region in planner.writers_last(regions):
        planner.add(region)
    return planner.finish()


class _Planner:
    def __init__(self, roots: Sequence[Node], donated: Sequence[int | None],
                 capabilities: Capabilities, claim: Claim | None, tuned: Tune) -> None:
        self.roots, self.capabilities, self.claim, self.tune = roots, capabilities, claim, tuned
        self.buffers: list[_Buffer] = []
        self.of: dict[Node, int] = {}
        self.donated = {root: slot for root, slot in zip(roots, donated, strict=True) if slot is not None}
        self.kernels: dict[tuple[Kernel, Extern | None], int] = {}
        self.costs: dict[int, Cost] = {}
        self.drafts: list[_Draft] = []
        self.checks: list[IndexCheck] = []
        self.outputs = 0
        self.last_reader: dict[int, int] = {}  # input -> number of the last region that reads it
        self.readers: dict[Node, int] = {}
        self.number = 0

    def writers_last(self, regions: tuple[Region, ...]) -> list[Region]:
        """Regions that nobody waits for and that write over inputs go last: after those inputs' readers."""
        read = {n for region in regions for n in region.reads}
        first: list[Region] = []
        final: list[Region] = []
        for region in regions:
            writes_over = not self.donated.keys().isdisjoint(region.outputs)
            (final if writes_over and read.isdisjoint(region.outputs) else first).append(region)
        ordered = first + final
        for number, region in enumerate(ordered):
            for n in region.reads:
                self.readers[n] = number
                if n.op is g.INPUT:
                    self.last_reader[n.arg] = number
        return ordered

    def _buffer(self, n: Node) -> int:
        """The buffer of a node, made when first met."""
        found = self.of.get(n)
        if found is not None:
            return found
        number = len(self.buffers)
        made = _Buffer(n.type.size * n.dtype.itemsize)
        if n.op is g.INPUT:
            made.input = n.arg
        elif n in self.roots:
            made.output, self.outputs = self.outputs, self.outputs + 1
        self.buffers.append(made)
        self.of[n] = number
        return number

    def add(self, region: Region) -> None:
        """Plan one region: its kernel's phases, after a copy where it writes into a part of something."""
        built = build(region)
        root = region.members[0].root
        if root.op in g.WRITES:
            self._base(root, root.src[0] in built.params)
        built = self._in_place(built)
        tuned = self.tune(built.kernel, self.capabilities, self.claim)
        if VERIFY.value:
            verify_kernel(built.kernel, "kernel")
            for phase in tuned.phases:
                verify_kernel(phase.kernel, "tune")
        numbers = [self._buffer(n) for n in built.params]
        if built.checks:
            numbers.append(self._status(built.checks))
        for temporary in tuned.temporaries:
            numbers.append(len(self.buffers))
            self.buffers.append(_Buffer(temporary.size * temporary.dtype.itemsize))
        costs = [cost(phase.kernel) for phase in tuned.phases]
        # below 1 where tiles compute beyond an edge; a value that the expression has in several places is one
        share = min(1.0, cost(built.kernel).operations / max(1, sum(each.operations for each in costs)))
        for phase, work in zip(tuned.phases, costs, strict=True):
            args = [numbers[i] for i in phase.args]
            roles = [b.role for b in phase.kernel.arguments]
            reads = {a for a, r in zip(args, roles, strict=True) if r in ("in", "inout")}
            writes = {a for a, r in zip(args, roles, strict=True) if r in ("out", "inout")}
            kernel = self.kernels.setdefault((phase.kernel, phase.extern), len(self.kernels))
            self.costs.setdefault(kernel, replace(work, operations=round(work.operations * share)))
            work_us = estimate_us(work, self.capabilities)
            self.drafts.append(_Draft(reads, writes, kernel, args, built.slots, work_us))
        self.number += 1

    def _status(self, checks: tuple[IndexCheck, ...]) -> int:
        """Words of their own for the checks of one kernel, aligned like any argument; the gap stays 0."""
        words = max(1, self.capabilities.alignment // 8)
        self.checks += (NO_CHECK,) * (-len(self.checks) % words)
        self.buffers.append(_Buffer(8 * len(checks), status=len(self.checks)))
        self.checks += checks
        return len(self.buffers) - 1

    def _base(self, root: Node, read: bool) -> None:
        """Give a partial write the memory of its base, or a copy where somebody still needs the base.

        `read`: the value is computed from elements of the base, in another order than they are written.
        """
        base = root.src[0]
        source = self._buffer(base)
        last = not read and self.readers.get(base, -1) <= self.number
        if last and base.op is not g.INPUT and base not in self.roots and root not in self.of:
            if root in self.roots:
                self.buffers[source].output, self.outputs = self.outputs, self.outputs + 1
            self.of[root] = source
            return
        target = self._buffer(root)
        donated = base.op is g.INPUT and self.donated.get(root) == base.arg
        if donated and not read and self.last_reader.get(base.arg, -1) <= self.number:
            self.buffers[target].reuses = base.arg
            return
        self.drafts.append(_Draft({source}, {target}, None, [target, source]))

    def _in_place(self, built: Built) -> Built:
        """Let outputs take over donated inputs that this kernel is the last to read."""
        kernel, params = built.kernel, built.params
        for target, n in enumerate(params):
            slot = self.donated.get(n)
            if slot is None or n.op in g.WRITES or kernel.buffers[target].role != "out":
                continue
            if self.last_reader.get(slot, -1) > self.number:
                continue
            source = next((i for i, p in enumerate(params) if p.op is g.INPUT and p.arg == slot), None)
            changed = kernel if source is None else overwrite(kernel, source, target)
            if changed is None:
                continue
            kernel = changed
            self.buffers[self._buffer(n)].reuses = slot
        return Built(kernel, params, built.slots, built.checks)

    def finish(self) -> Plan:
        """Lay out the arena and number everything."""
        for root in self.roots:
            if root.op is g.INPUT:  # returned as it came in: perhaps no kernel reads it
                self._buffer(root)
        flags = barriers([self._conflicts(d) for d in self.drafts])
        refs = self._places(list(accumulate(flags)))
        commands: list[PlannedCommand] = []
        for draft, barrier in zip(self.drafts, flags, strict=True):
            if draft.kernel is None:
                target, source = draft.args
                commands.append(PlannedCopy(refs[target], refs[source], self.buffers[source].nbytes))
            else:
                buffers, work = tuple([refs[a] for a in draft.args]), round(draft.work_us, 2)
                commands.append(PlannedLaunch(draft.kernel, buffers, draft.values, work, barrier))
        roots, outputs = self._results(refs)
        kernels = tuple([kernel for kernel, _ in self.kernels])
        externs = {number: extern for (_, extern), number in self.kernels.items() if extern is not None}
        return Plan(kernels, tuple(commands), outputs, roots, self.arena_bytes, tuple(self.checks), externs,
                    tuple([self.costs[i] for i in range(len(kernels))]))

    def _conflicts(self, draft: _Draft) -> tuple[frozenset[int], frozenset[int]]:
        """Buffers as places of memory: an output that takes over an input is that input."""
        def place(number: int) -> int:
            b = self.buffers[number]
            slot = b.reuses if b.reuses is not None else b.input
            return number if slot is None else -1 - slot
        return frozenset(map(place, draft.reads)), frozenset(map(place, draft.writes))

    def _places(self, phases: list[int]) -> list[BufferRef]:
        """Where buffers lie. Commands of one phase may run side by side: temporaries live for phases."""
        temporaries = [i for i, b in enumerate(self.buffers)
                       if b.input is None and b.output is None and b.status is None]
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for phase, draft in zip(phases, self.drafts, strict=True):
            for i in draft.reads | draft.writes:
                first.setdefault(i, phase)
                last[i] = phase
        lives = [Lifetime(self.buffers[i].nbytes, first.get(i, 0), last.get(i, 0)) for i in temporaries]
        offsets, self.arena_bytes = lay_out(lives, self.capabilities.alignment)
        offset_of = dict(zip(temporaries, offsets, strict=True))
        refs = []
        for i, b in enumerate(self.buffers):
            if b.output is not None:
                refs.append(BufferRef("output", b.output))
            elif b.input is not None:
                refs.append(BufferRef("input", b.input))
            elif b.status is not None:
                refs.append(BufferRef("status", 0, 8 * b.status))
            else:
                refs.append(BufferRef("arena", 0, offset_of[i]))
        return refs

    def _results(self, refs: list[BufferRef]) -> tuple[tuple[BufferRef, ...], tuple[PlannedOutput, ...]]:
        roots = tuple([refs[self._buffer(r)] if r.type.size or r.op is g.INPUT else self._empty()
                       for r in self.roots])
        written = [b for b in self.buffers if b.output is not None]
        by_number = {b.output: PlannedOutput(b.nbytes, b.reuses) for b in written}
        return roots, tuple([by_number.get(i, PlannedOutput(0)) for i in range(self.outputs)])

    def _empty(self) -> BufferRef:
        """A root of no elements: an output that no kernel writes."""
        number, self.outputs = self.outputs, self.outputs + 1
        return BufferRef("output", number)
