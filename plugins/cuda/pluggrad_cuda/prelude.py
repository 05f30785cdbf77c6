"""What generated CUDA C++ is written in: pieces, files NAME.cuh, that stand before kernels which use them.

Whatever is not plain C++ (inline PTX, functions of a warp) is in a piece of its own, named by `NATIVE`, so
that another compiler needs other text for those pieces only.
"""
from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pluggrad.plugin_api import Source

FOLDER: Final = Path(__file__).parent
HEAD: Final = "static __device__ __forceinline__"
# no header of the language's is needed for more
PREAMBLE: Final = "#define NAN __int_as_float(0x7fffffff)\n#define INFINITY __int_as_float(0x7f800000)"
NATIVE: Final = frozenset({"halves", "exchange", "local_memory", "load_blocks", "copies", "products", "tf32",
                           "engine"})
_NEEDS: Final = {
    "rows": ("lanes",), "lanes_bits": ("lanes", "bits"), "lanes_exchange": ("lanes", "exchange"),
    "panels": ("load_blocks",), "by_warps": ("panels",), "by_groups": ("panels", "describe", "products"),
    "boxes": ("engine",), "spans": ("load_blocks",),
    "round_panels": ("panels", "products", "tf32"),
}


def use(name: str, out: Source) -> None:
    """Have a piece, and what it needs, stand before the kernel."""
    for needed in _NEEDS.get(name, ()):
        use(needed, out)
    out.pieces.setdefault(name, piece(name))


@cache
def piece(name: str) -> str:
    """The text of a piece, without empty lines: those stand between pieces."""
    text = FOLDER.joinpath(f"{name}.cuh").read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if line)
