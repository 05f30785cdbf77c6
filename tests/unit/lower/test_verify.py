"""The structural rules of lower/program.py, each broken once."""
from __future__ import annotations

import pytest

from pluggrad import dtypes
from pluggrad.errors import VerifyError
from pluggrad.kernel.kernel import BufferParam, Kernel
from pluggrad.lower.program import Instr, Program, RegisterAxis
from pluggrad.lower.verify import verify_program

F32, I64, BOOL = dtypes.float32, dtypes.int64, dtypes.bool_
BUFFERS = (BufferParam(F32, 64, "in"), BufferParam(F32, 64, "out"))
AXES = (RegisterAxis(0, 2, False), RegisterAxis(1, 8, True), RegisterAxis(2, 8, True))


def program(*body: Instr) -> Program:
    return Program("p", BUFFERS, (F32,), 4, AXES, body, Kernel("p", BUFFERS, (F32,), (), ()))


ZERO = Instr("CONST", I64, arg=0)
ONE = Instr("CONST", F32, arg=1.0)
YES = Instr("CONST", BOOL, arg=True)
LOOP, END = Instr("LOOP", None, arg=(0, 8)), Instr("END", None)


def test_a_tiled_sum_passes() -> None:
    verify_program(program(
        ONE,                                                         # 0
        Instr("ACC", F32, (0,), axes=(0, 1)),                        # 1
        LOOP,                                                        # 2
        Instr("LOAD", F32, (2,), (0, ((1, 8),)), (1,)),              # 3
        Instr("ADD", F32, (1, 3), axes=(0, 1)),                      # 4
        Instr("SET", None, (1, 4), axes=(0, 1)),                     # 5
        END,                                                         # 6
        Instr("HREDUCE", F32, (1,), ("ADD", (1,)), (0,)),            # 7
        ZERO, YES,                                                   # 8, 9
        Instr("IF", None, (9,)),                                     # 10
        Instr("STORE", None, (8, 7), (1, ((0, 1),)), (0,)),          # 11
        Instr("ELSE", None), END,
    ), "linearize")


BAD: dict[str, tuple[tuple[Instr, ...], str]] = {
    "an op that is rewritten": ((Instr("IDIV", I64, ()),), "an instruction of the program stage"),
    "no instruction": ((Instr("SUM", F32, ()),), "an instruction"),
    "arity": ((ONE, Instr("ADD", F32, (0,))), "2 sources"),
    "later source": ((Instr("NEG", F32, (1,)), ONE), "source 1 to be defined"),
    "own source": ((Instr("NEG", F32, (0,)),), "source 0 to be defined"),
    "out of its block": ((LOOP, ONE, END, Instr("NEG", F32, (1,))), "source 1 to be defined"),
    "from the other branch": (
        (YES, Instr("IF", None, (0,)), ONE, Instr("ELSE", None), Instr("NEG", F32, (2,)), END), "source 2"),
    "counter after its loop": ((LOOP, END, Instr("NEG", I64, (0,))), "source 0"),
    "source without a value": ((LOOP, END, Instr("NEG", F32, (1,))), "source 1 to have a value"),
    "END alone": ((END,), "an open block"),
    "ELSE in a loop": ((LOOP, Instr("ELSE", None)), "an open IF"),
    "ELSE twice": ((YES, Instr("IF", None, (0,)), Instr("ELSE", None), Instr("ELSE", None)), "an open IF"),
    "open block": ((LOOP,), "1 more END"),
    "missing dtype": ((Instr("CONST", None, arg=0),), "a dtype"),
    "needless dtype": ((Instr("LOOP", I64, arg=(0, 2)),), "no dtype"),
    "mixed dtypes": ((ZERO, ONE, Instr("ADD", F32, (0, 1))), "operands of one dtype"),
    "result dtype": ((ONE, Instr("LT", F32, (0, 0))), "a result of bool"),
    "loop bounds": ((Instr("LOOP", None, arg=(4, 2)), END), "start <= stop"),
    "condition": ((ONE, Instr("IF", None, (0,)), END), "a bool"),
    "value slot": ((Instr("VALUE", F32, arg=1),), "a slot of"),
    "lane axes": ((Instr("LANE", I64, arg=1),), r"axes \(1,\)"),
    "unknown axis": ((Instr("CONST", F32, arg=1.0, axes=(5,)),), "sorted axes"),
    "unsorted axes": ((Instr("CONST", F32, arg=1.0, axes=(1, 0)),), "sorted axes"),
    "two vectors": ((Instr("CONST", F32, arg=1.0, axes=(1, 2)),), "one vector axis"),
    "wider source": ((Instr("CONST", F32, arg=1.0, axes=(1,)), Instr("NEG", F32, (0,))), "source 0 to vary"),
    "reduced axes": (
        (Instr("CONST", F32, arg=1.0, axes=(1,)), Instr("HREDUCE", F32, (0,), ("ADD", (1,)), (1,))),
        r"axes \[\]"),
    "no register": ((ONE, Instr("SET", None, (0, 0))), "an ACC"),
    "register dtype": ((ONE, ZERO, Instr("ACC", F32, (0,)), Instr("SET", None, (2, 1))), "an ACC"),
    "narrow register": ((ONE, Instr("ACC", F32, (0,)), Instr("CONST", F32, arg=1.0, axes=(0,)),
                         Instr("SET", None, (1, 2), axes=(0,))), "source 2 to vary"),
    "buffer": ((ZERO, Instr("LOAD", F32, (0,), (2, None))), "a buffer below 2"),
    "element dtype": ((ZERO, Instr("LOAD", I64, (0,), (0, None))), "elements of float32"),
    "float index": ((ONE, Instr("LOAD", F32, (0,), (0, None))), "an integer index"),
    "gate": ((ZERO, Instr("LOAD", F32, (0, 0), (0, None))), "a bool gate"),
    "index over axes": (
        (Instr("LANE", I64, arg=1, axes=(1,)), Instr("LOAD", F32, (0,), (0, ()), (1,))), "no axis"),
    "stride elsewhere": ((ZERO, Instr("LOAD", F32, (0,), (0, ((0, 1),)))), "strides along"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_program(case: str) -> None:
    body, text = BAD[case]
    with pytest.raises(VerifyError, match=text) as caught:
        verify_program(program(*body), "linearize")
    assert "after linearize" in str(caught.value)
