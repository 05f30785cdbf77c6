"""Plans as text: commands by wave, the memory that each touches, and where results are.

    wave 1
      launch sum_64_64(output 0, arena+0, arena+16384)  values 0 1  8.4 us
    output 0: 16384 bytes of new memory
    arena: 32768 bytes
    root 0 is output 0
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence

from pluggrad.kernel.kernel import IndexCheck
from pluggrad.plan.plan import BufferRef, Plan, PlannedCommand, PlannedCopy


def waves(plan: Plan) -> list[list[PlannedCommand]]:
    """Commands in groups; those of one group may run side by side."""
    groups: list[list[PlannedCommand]] = []
    for command in plan.commands:
        alone = isinstance(command, PlannedCopy) or command.barrier
        if alone or not groups or isinstance(groups[-1][-1], PlannedCopy):
            groups.append([])
        groups[-1].append(command)
    return groups


def plan_text(plan: Plan, names: Sequence[str] = ()) -> str:
    """The whole plan. `names[i]` is what kernel i is called, its own name if not given."""
    names = names or [kernel.name for kernel in plan.kernels]
    return "\n".join(_lines(plan, [f"{name} by {plan.externs[i].name}" if i in plan.externs else name
                                   for i, name in enumerate(names)]))


def _lines(plan: Plan, names: Sequence[str]) -> Iterator[str]:
    for number, wave in enumerate(waves(plan)):
        yield f"wave {number}"
        yield from (f"  {_command(command, names)}" for command in wave)
    for number, output in enumerate(plan.outputs):
        memory = "of new memory" if output.reuses is None else f"over input {output.reuses}"
        yield f"output {number}: {output.nbytes} bytes {memory}"
    yield f"arena: {plan.arena_bytes} bytes"
    yield from (f"status {number}: {_checked(check)} of size {check.extent}"
                for number, check in enumerate(plan.checks) if check.op)
    yield from (f"root {number} is {_ref(ref)}" for number, ref in enumerate(plan.roots))


def _command(command: PlannedCommand, names: Sequence[str]) -> str:
    if isinstance(command, PlannedCopy):
        return f"copy {command.nbytes} bytes from {_ref(command.source)} to {_ref(command.target)}"
    args = ", ".join(map(_ref, command.args))
    values = f"  values {' '.join(map(str, command.values))}" if command.values else ""
    return f"launch {names[command.kernel]}({args}){values}  {command.work_us:g} us"


def _ref(ref: BufferRef) -> str:
    if ref.place in ("arena", "status"):
        return f"{ref.place}+{ref.offset}"
    return f"{ref.place} {ref.number}"


def _checked(check: IndexCheck) -> str:
    return f"labels of {check.op}" if check.axis is None else f"indices of {check.op} on axis {check.axis}"
