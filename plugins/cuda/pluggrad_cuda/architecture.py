"""What code is made for, as NVIDIA names it: `sm_80`, `sm_90a`; and the blocks of a launch."""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pluggrad.plugin_api import DeviceUnavailable

_NAME: Final = re.compile(r"sm_(\d+)(a?)")
_OWN_FEATURES: Final = 90  # from here on an architecture has instructions that only its own code (`a`) uses
MAX_BLOCKS: Final = (1 << 31) - 1  # of a grid along x; along y there are 65535


@dataclass(frozen=True, slots=True)
class Architecture:
    """Compute capability times ten; `own`: with what later ones need not have."""

    capability: int
    own: bool = False

    @classmethod
    def of(cls, capability: int) -> Architecture:
        """All that a GPU of this compute capability has."""
        return cls(capability, capability >= _OWN_FEATURES)

    @classmethod
    def parse(cls, text: str) -> Architecture:
        """Read what `str` gave."""
        found = _NAME.fullmatch(text)
        if found is None:
            raise DeviceUnavailable(op="cuda", expected="an architecture: sm_80, sm_90a, ...", got=repr(text))
        return cls(int(found[1]), bool(found[2]))

    def __str__(self) -> str:
        return f"sm_{self.capability}{'a' if self.own else ''}"


def grid(tasks: int) -> tuple[int, int]:
    """Blocks along x and y, at least one a task: kernels of more than `MAX_BLOCKS` tasks skip the rest."""
    rows = -(-tasks // MAX_BLOCKS)
    return (tasks, 1) if rows < 2 else (MAX_BLOCKS, rows)
