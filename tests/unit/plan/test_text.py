"""Plans as text: waves end where a command must wait."""
from __future__ import annotations

from pluggrad.kernel.kernel import Kernel
from pluggrad.plan import BufferRef, Plan, PlannedCopy, PlannedLaunch, PlannedOutput
from pluggrad.plan.text import plan_text, waves

IN, OUT, TEMPORARY = BufferRef("input", 0), BufferRef("output", 0), BufferRef("arena", 0, 64)


def launch(*args: BufferRef, barrier: bool = False) -> PlannedLaunch:
    return PlannedLaunch(0, args, (1, 0), 1.5, barrier)


PLAN = Plan((Kernel("add", (), (), (), ()),),
            (launch(TEMPORARY), launch(OUT), launch(OUT, TEMPORARY, barrier=True), PlannedCopy(OUT, IN, 32),
             launch(OUT)),
            (PlannedOutput(32), PlannedOutput(8, 1)), (OUT, IN), 128)


def test_a_wave_ends_at_a_barrier_and_around_a_copy() -> None:
    assert [len(wave) for wave in waves(PLAN)] == [2, 1, 1, 1]


def test_every_command_names_its_memory() -> None:
    assert plan_text(PLAN).splitlines() == [
        "wave 0", "  launch add(arena+64)  values 1 0  1.5 us", "  launch add(output 0)  values 1 0  1.5 us",
        "wave 1", "  launch add(output 0, arena+64)  values 1 0  1.5 us",
        "wave 2", "  copy 32 bytes from input 0 to output 0",
        "wave 3", "  launch add(output 0)  values 1 0  1.5 us",
        "output 0: 32 bytes of new memory", "output 1: 8 bytes over input 1", "arena: 128 bytes",
        "root 0 is output 0", "root 1 is input 0"]
    assert "launch other(" in plan_text(PLAN, ["other"])
