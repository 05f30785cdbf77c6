"""Programs as text: one instruction a line, blocks indented.

    program k3f... (mul_64_64): 16 tasks, vector axis 7 of 16
    buffer 0: out float32[4096]
    %0 = TASK: int64
    LOOP %1 from 0 to 4
      %2 = LOAD buffer 1 at %1 + a7: float32 over a7
      STORE buffer 0 at %1 + a7 = %2 over a7
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from pluggrad.kernel.kernel import Box
from pluggrad.kernel.text import buffer_text
from pluggrad.lower.program import Instr, Program

_OPEN: Final = frozenset({"LOOP", "IF", "ELSE"})
_CLOSE: Final = frozenset({"ELSE", "END"})


def program_text(program: Program) -> str:
    """The whole program. END is not shown: indentation says it."""
    return "\n".join(_lines(program))


def _lines(program: Program) -> Iterator[str]:
    yield header(program)
    yield from (buffer_text(i, b) for i, b in enumerate(program.buffers))
    yield from (f"value {i}: {dtype.name}" for i, dtype in enumerate(program.values))
    yield from (_box(i, box) for i, box in enumerate(program.boxes))
    depth = 0
    for number, instr in enumerate(program.body):
        depth -= instr.op in _CLOSE
        if instr.op != "END":
            yield "  " * depth + _instruction(number, instr)
        depth += instr.op in _OPEN


def header(program: Program) -> str:
    """One line: name, launch size, and the axes that live in registers."""
    axes = [f", {'vector' if a.vector else 'tile'} axis {a.id} of {a.extent}" for a in program.axes]
    tasks = f"{program.tasks} task{'s' * (program.tasks != 1)}"
    items = f" of {program.group} items" * (program.group > 1)
    return f"program {program.name} ({program.kernel.name}): {tasks}{items}{''.join(axes)}"


def _box(number: int, box: Box) -> str:
    dims = ", ".join(f"{dim.held} of {dim.extent} at stride {dim.stride}" for dim in box.dims)
    return f"box {number}: of buffer {box.source} from {box.offset} on, {dims}, in spans of {box.span}"


def _instruction(number: int, instr: Instr) -> str:
    body = _WRITERS.get(instr.op, _plain)(number, instr)
    result = f"%{number} = {body}: {instr.dtype.name}" if instr.dtype and instr.op != "LOOP" else body
    return f"{result} over {' '.join(f'a{axis}' for axis in instr.axes)}" if instr.axes else result


def _plain(number: int, instr: Instr) -> str:
    argument = "" if instr.arg is None else str(instr.arg)
    return " ".join(filter(None, [instr.op, argument, ", ".join(f"%{s}" for s in instr.src)]))


def _place(instr: Instr) -> str:
    """Buffer and address; with strides, the part of the address that runs along register axes."""
    slot, strides = instr.arg
    along = [f" + a{axis}" if stride == 1 else f" + {stride}*a{axis}" for axis, stride in strides or ()]
    return f"buffer {slot} at %{instr.src[0]}{''.join(along)}"


def _gate(instr: Instr, position: int) -> str:
    return f" if %{instr.src[position]}" if len(instr.src) > position else ""


def _copied(number: int, instr: Instr) -> str:
    slot, box, _ = instr.arg
    step, index, *starts = [f"%{source}" for source in instr.src]
    return f"COPY_BOX {box} from {', '.join(starts)} to buffer {slot} at {index} for step {step}"


def _reduction(number: int, instr: Instr) -> str:
    name, axes = instr.arg
    return f"HREDUCE {name} along {' '.join(f'a{axis}' for axis in axes)} of %{instr.src[0]}"


_WRITERS: Final[dict[str, Callable[[int, Instr], str]]] = {
    "LOOP": lambda number, instr: f"LOOP %{number} from {instr.arg[0]} to {instr.arg[1]}",
    "LANE": lambda number, instr: f"LANE a{instr.arg}",
    "LOAD": lambda number, instr: f"LOAD {_place(instr)}{_gate(instr, 1)}",
    "STORE": lambda number, instr: f"STORE {_place(instr)} = %{instr.src[1]}{_gate(instr, 2)}",
    "PREFETCH": lambda number, instr: f"PREFETCH {_place(instr)}",
    "SET": lambda number, instr: f"SET %{instr.src[0]} = %{instr.src[1]}",
    "HREDUCE": _reduction, "COPY_BOX": _copied,
    "ARRIVALS": lambda number, instr: f"ARRIVALS of {instr.arg[1]} boxes in each of {instr.arg[0]} stages",
    "WAIT_BOX": lambda number, instr: f"WAIT_BOX for step %{instr.src[0]}",
}
