"""Programs as text: blocks are indented, addresses and gates are written out."""
from __future__ import annotations

from pluggrad import dtypes
from pluggrad.kernel.kernel import BufferParam, Kernel
from pluggrad.lower.program import Instr, Program, RegisterAxis
from pluggrad.lower.text import program_text

F32, I64, BOOL = dtypes.float32, dtypes.int64, dtypes.bool_
BUFFERS = (BufferParam(F32, 64, "out"), BufferParam(F32, 64, "in"))
AXES = (RegisterAxis(2, 4, False), RegisterAxis(3, 16, True))

TEXT = """\
program k1 (sum): 1 task, tile axis 2 of 4, vector axis 3 of 16
buffer 0: out float32[64]
buffer 1: in float32[64]
value 0: float32
%0 = TASK: int64
%1 = VALUE 0: float32
%2 = ACC %1: float32 over a2 a3
%3 = CONST True: bool
LOOP %4 from 0 to 8
  %5 = LOAD buffer 1 at %4 + 8*a2 + a3 if %3: float32 over a2 a3
  %6 = ADD %2, %5: float32 over a2 a3
  SET %2 = %6 over a2 a3
%8 = HREDUCE ADD along a3 of %2: float32 over a2
IF %3
  STORE buffer 0 at %0 + 8*a2 = %8 over a2
ELSE
  %12 = LANE a3: int64 over a3
  STORE buffer 0 at %12 = %1 if %3 over a3"""


def test_a_program_reads_as_nested_blocks() -> None:
    body = (
        Instr("TASK", I64), Instr("VALUE", F32, arg=0), Instr("ACC", F32, (1,), axes=(2, 3)),
        Instr("CONST", BOOL, arg=True),
        Instr("LOOP", None, arg=(0, 8)),
        Instr("LOAD", F32, (4, 3), (1, ((2, 8), (3, 1))), (2, 3)),
        Instr("ADD", F32, (2, 5), axes=(2, 3)),
        Instr("SET", None, (2, 6), axes=(2, 3)),
        # what a source names is its position; END has one too
        Instr("HREDUCE", F32, (2,), ("ADD", (3,)), (2,)),
    )
    body = (*body[:8], Instr("END", None), *body[8:], Instr("IF", None, (3,)),
            Instr("STORE", None, (0, 9), (0, ((2, 8),)), (2,)), Instr("ELSE", None),
            Instr("LANE", I64, arg=3, axes=(3,)), Instr("STORE", None, (13, 1, 3), (0, None), (3,)),
            Instr("END", None))
    program = Program("k1", BUFFERS, (F32,), 1, AXES, body, Kernel("sum", BUFFERS, (F32,), (), ()))
    assert program_text(program) == TEXT.replace("%8", "%9").replace("%12", "%13")
