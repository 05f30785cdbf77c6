"""What kernels take of a multiprocessor: read from what the assembler writes about each into the log."""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_KERNEL: Final = re.compile(r"Compiling entry function '(\w+)'")
_NUMBERS: Final = {
    "stack_bytes": re.compile(r"(\d+) bytes stack frame"),
    "spilled_bytes": re.compile(r"(\d+) bytes spill stores"),
    "registers": re.compile(r"Used (\d+) registers"),
    "shared_bytes": re.compile(r"(\d+) bytes smem"),
}


@dataclass(frozen=True, slots=True)
class Resources:
    """Of a thread: registers, of 4 bytes, and memory for arrays and for what was spilled; of a block: shared
    memory."""

    registers: int = 0
    stack_bytes: int = 0
    spilled_bytes: int = 0
    shared_bytes: int = 0


def parse(log: str) -> dict[str, Resources]:
    """By kernel. What a log says before the first kernel is about the program."""
    _, *parts = _KERNEL.split(log)
    return {name: Resources(**{field: int(found[1]) for field, number in _NUMBERS.items()
                               if (found := number.search(text)) is not None})
            for name, text in zip(parts[::2], parts[1::2], strict=True)}
