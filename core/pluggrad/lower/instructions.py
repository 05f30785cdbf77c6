"""The instructions of a Program, a row each: what a renderer must know. docs/kernel-language.md prints it."""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pluggrad.graph.grammar import OPERAND_KINDS
from pluggrad.graph.ops import BITCAST, CAST, ELEMENTWISE, IDIV, MOD, POW, SHL, SHR
from pluggrad.ir.node import Op
from pluggrad.kernel.ops import CDIV, CMOD, DOT2
from pluggrad.lower.arithmetic import DECOMPOSED

_ANY: Final = "biuf"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One row. sources: how many it may have. kinds: of the dtype of what it works on ('b' bool, 'i' signed,
    'u' unsigned, 'f' float). result: a dtype's name, "same" as the last operand's, "any", or "" where there
    is none. since: minor version of the plugin API. optional: reaches only renderers whose
    `Capabilities.ops` names it; for others it is written in the rows that are not optional.
    """

    name: str
    sources: tuple[int, ...]
    kinds: str
    result: str
    meaning: str
    since: int = 0
    optional: bool = False


STRUCTURE: Final = (
    Instruction(
        "CONST", (0,), _ANY, "any",
        "arg: Python value, a bool, an int within the dtype or a float (NaN, infinity and -0.0 occur)"),
    Instruction(
        "VALUE", (0,), _ANY, "any",
        "arg: run-time value slot, of dtype `Program.values[arg]`"),
    Instruction(
        "TASK", (0,), "i", "int64",
        "index of the task at hand, 0 <= task < `Program.tasks`; tasks run in any order, side by side"),
    Instruction(
        "ITEM", (0,), "i", "int64",
        "index of the work item at hand, 0 <= item < `Program.group`; only where the group is larger than 1",
        since=1),
    Instruction(
        "LOOP", (0,), "i", "int64",
        "arg: (start, stop) ints; the body runs for each counter start <= counter < stop, an int64 that is "
        "the instruction's value within the body; closed by END"),
    Instruction(
        "IF", (1,), "b", "",
        "src: condition, which varies over no axis; the body runs where it is true; optional ELSE; closed by "
        "END"),
    Instruction("ELSE", (0,), "", "", "ends the body of the open IF; what follows runs where it does not"),
    Instruction("END", (0,), "", "", "closes the innermost LOOP, IF or ELSE"),
    Instruction(
        "LANE", (0,), "i", "int64",
        "arg: register axis; the position along it (varies over that axis)"),
    Instruction(
        "LOAD", (1, 2), _ANY, "any",
        "arg: (buffer, strides or None), src: (index[, gate]). With strides ((axis, elements), ...) the "
        "element for a position p is index + sum(p[axis] * elements) and index has no axes; axes not named "
        "have stride 0. With None the index itself varies. Where the gate (bool) is false nothing is read "
        "and the value is 0"),
    Instruction(
        "STORE", (2, 3), _ANY, "",
        "arg: (buffer, strides or None), src: (index, value[, gate]); the element as for LOAD; nothing is "
        "written where the gate is false"),
    Instruction(
        "ACC", (1,), _ANY, "same",
        "a mutable register, src: (initial value,), set wherever control passes the instruction; naming its "
        "id as a source reads the present value"),
    Instruction(
        "SET", (2,), _ANY, "",
        "src: (ACC, value): gives the ACC its new value, at every position of the ACC's axes"),
    Instruction(
        "HREDUCE", (1,), _ANY, "same",
        "arg: (ADD, MUL, MAX or MIN; register axes removed), src: (value,): combines the positions along "
        "those axes, in an order that the renderer chooses once and for all"),
    Instruction(
        "GREDUCE", (1,), _ANY, "same",
        "arg: ADD, MUL, MAX or MIN, src: (value,): combines the values of all work items of the group, "
        "position by position, in an order that the renderer chooses once and for all; every item gets the "
        "result, and none goes on before all have read and written what stands before",
        since=1),
    Instruction(
        "BARRIER", (0,), "", "",
        "all work items of the group wait here for each other, and then see what any of them has stored to "
        "local buffers; in no IF whose condition differs from item to item; only where the group is larger "
        "than 1",
        since=4),
    Instruction(
        "MMA_ACC", (0,), "f", "any",
        "arg: a MatrixTile: sums of rows x columns, all 0, in registers of all work items of the group "
        "together; a mutable value, which MMA and MMA_STORE alone name",
        since=4),
    Instruction(
        "MMA", (3,), "f", "",
        "arg: the MatrixTile, src: (MMA_ACC, index of the left panel, index of the right panel): adds the "
        "product of the panels, which lie in local buffers; all work items come to it, as to a BARRIER; the "
        "last `in_flight` products may still be under way when it is done",
        since=4),
    Instruction(
        "MMA_STORE", (2,), "f", "",
        "arg: (buffer, elements from row to row), src: (MMA_ACC, index): the sums, row by row, to a local "
        "buffer, which may lie where the panels do (`Program.local_places`); all work items come to it, and "
        "wait for products that are under way",
        since=4),
    Instruction(
        "COPY", (2, 3), _ANY, "",
        "arg: (buffer, strides, from, strides), src: (index, index there[, gate]): elements of a buffer to a "
        "local one, addressed as by STORE and LOAD, 0 where the gate is false; done at a WAIT, or before",
        since=4),
    Instruction(
        "COMMIT", (0,), "", "",
        "makes one batch of all COPYs of this work item since the COMMIT before, if only of none",
        since=4),
    Instruction(
        "WAIT", (0,), "", "",
        "arg: n; waits for all batches of this work item but the n that were committed last; other items "
        "see what was copied after a BARRIER",
        since=4),
    Instruction(
        "ARRIVALS", (0,), "", "",
        "arg: (stages, copies): before the first COPY_BOX, and a BARRIER; a step of a loop has so many of "
        "them, which go to one of so many stages, and the group is told when all of these have arrived",
        since=4),
    Instruction(
        "COPY_BOX", (4, 5, 6, 7), _ANY, "",
        "arg: (buffer, number, stages), src: (step, index, position along each dimension): box "
        "`Program.boxes[number]` from these positions on, 0 where one is beyond its extent, to a local "
        "buffer that MMA alone reads: how elements lie within a span is the unit's secret. All work items "
        "come to it, done with what was there, and one of them has the copy made",
        since=4),
    Instruction(
        "WAIT_BOX", (1,), "i", "",
        "arg: stages, src: (step,): waits until the boxes of that step have arrived; each work item waits "
        "for each step, in order",
        since=4),
)

# where an instruction promises more than the op of the graph that it comes from
_PROMISES: Final = {
    SHL: "x << y; 0 <= y < width",
    SHR: "x >> y, arithmetic for signed; 0 <= y < width",
}
_ALWAYS_REWRITTEN: Final = frozenset({IDIV, MOD, POW})


def _elementwise(op: Op) -> Instruction:
    meaning = _PROMISES.get(op) or re.sub(r"; gradient [^;]*", "", op.doc)
    kinds = OPERAND_KINDS.get(op, "iuf" if op is BITCAST else _ANY)
    result = "bool" if op.kind == "compare" else "any" if op in (CAST, BITCAST) else "same"
    return Instruction(op.name, (op.arity,), kinds, result, meaning, optional=op in DECOMPOSED)


ARITHMETIC: Final = (
    *[_elementwise(op) for op in sorted(ELEMENTWISE - _ALWAYS_REWRITTEN, key=lambda op: (op.arity, op.name))],
    *[Instruction(op.name, (2,), "iu", "same", op.doc) for op in (CDIV, CMOD)],
    Instruction(DOT2.name, (3,), "u", "float32", DOT2.doc, since=3, optional=True),
    Instruction(
        "PREFETCH", (1,), "", "",
        "arg: (buffer, strides or None), src: (index,): elements as for LOAD, which may lie outside of the "
        "buffer, will be read soon; a hint, which may be ignored",
        since=4, optional=True),
)
INSTRUCTIONS: Final = {row.name: row for row in (*STRUCTURE, *ARITHMETIC)}
