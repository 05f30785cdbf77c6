"""Products of matrices by a block of threads: two panels in shared memory, sums in registers.

`mma.sync` serves every architecture since sm_80: warps form a grid over the block of sums, and each
multiplies what it has loaded by `ldmatrix`. On sm_90a groups of four warps multiply by `wgmma`, straight
out of shared memory.

A panel is made of pieces of 16 bytes along one of its axes. Eight of them in a row are what both
instructions read at once, all banks a single time. On sm_90a an engine copies halves that lie as boxes: there
a panel is made of spans of eight pieces, exchanged so that those of eight rows are in all banks, too.

Sums are blocks of 16 x 8, of which a thread holds two neighbors of row lane / 4, at 2 * (lane % 4), and two
of row lane / 4 + 8. Along the rows the blocks of DOWN warps take turns.
"""
from __future__ import annotations

from typing import Final, NamedTuple

from pluggrad.plugin_api import BoxEngine, MatrixTile, MatrixUnit, Panel, Program, Source
from pluggrad_cuda import prelude

WARP: Final = 32
_WARPGROUP: Final = 128
_WITH_GROUPS: Final = 90  # the compute capability that has wgmma
_ROWS, _COLUMNS = 16, 8  # of a block of sums
_MOST_COLUMNS: Final = 256  # of wgmma
_TYPES: Final = {"float16": ("f16", 16), "bfloat16": ("bf16", 16), "float32": ("tf32", 8)}

_IN_FLIGHT: Final = {_WITH_GROUPS: 1}  # by compute capability: wgmma need not be waited for
SPAN_BYTES: Final = 128
_ENGINE: Final = BoxEngine(span_bytes=SPAN_BYTES, alignment=16, most=256, dims=5)


def units(capability: int, *, maps: bool) -> tuple[MatrixUnit, ...]:
    """What multiplies matrices, from sm_80 on. maps: the driver makes those that boxes are copied by; float32
    is rounded by the threads that bring it, and is none."""
    in_flight = _IN_FLIGHT.get(capability, 0)
    boxes = maps and capability == _WITH_GROUPS
    return tuple([MatrixUnit(_ROWS, 2 * _COLUMNS, steps, inputs, in_flight=in_flight,
                             engine=_ENGINE if boxes and inputs != "float32" else None)
                  for inputs, (_, steps) in _TYPES.items()])


class Layout(NamedTuple):
    """How the warps of a block share the sums of a tile: `down` of them along the rows. By groups: with
    wgmma."""

    down: int
    rows: int
    columns: int
    by_groups: bool


def layout(tile: MatrixTile, program: Program, capability: int) -> Layout:
    """The layout for a tile and a program's group."""
    warps = program.group // WARP
    if capability == _WITH_GROUPS and _suits_groups(tile, program):
        return Layout(warps, tile.rows // (_ROWS * warps), tile.columns // _COLUMNS, True)
    fits = [down for down in range(1, warps + 1) if warps % down == 0 and tile.rows % (_ROWS * down) == 0
            and tile.columns % (2 * _COLUMNS * warps // down) == 0]
    down = min(fits, key=lambda d: tile.rows // d + tile.columns * d // warps)
    return Layout(down, tile.rows // (_ROWS * down), tile.columns * down // (_COLUMNS * warps), False)


def _suits_groups(tile: MatrixTile, program: Program) -> bool:
    along = tile.left.along_sum and tile.right.along_sum
    halves = program.buffers[tile.left.buffer].dtype.itemsize == 2
    return program.group % _WARPGROUP == 0 and tile.rows % (program.group // 2) == 0 \
        and tile.columns <= _MOST_COLUMNS and (along or halves)


def panel_type(panel: Panel, program: Program, out: Source) -> str:
    """The type that reads a panel."""
    size = program.buffers[panel.buffer].dtype.itemsize
    if panel.piece * size == SPAN_BYTES:
        prelude.use("spans", out)
        return f"Spans<{size}, {str(panel.along_sum).lower()}, {panel.leading}>"
    return f"Panel<{size}, {str(panel.along_sum).lower()}, {panel.leading}, {panel.stride}>"


def unit(tile: MatrixTile, place: Layout, program: Program, out: Source) -> str:
    """The type that multiplies the operands of a tile; what declares it goes to `out`."""
    inputs = program.buffers[tile.left.buffer].dtype.name
    if not place.by_groups:
        if inputs == "float32":
            prelude.use("tf32", out)
        out.pieces.setdefault(f"{inputs}_by_warps", _warp_unit(inputs))
        return f"{inputs}_by_warps"
    along = [str(panel.along_sum).lower() for panel in (tile.left, tile.right)]
    name = f"{inputs}_by_groups<{tile.columns}, {along[0]}, {along[1]}>"
    out.pieces.setdefault(name, _group_unit(name, inputs, tile))
    return name


_ROUND: Final = """
#pragma unroll
        for (int i = 0; i < 4; i++) x[i] = round_to_tf32(x[i]);
    """


def _warp_unit(inputs: str) -> str:
    """mma.sync on operands of a dtype."""
    kind, steps = _TYPES[inputs]
    rounded = _ROUND if kind == "tf32" else ""
    return f"""\
struct {inputs}_by_warps {{
    static __device__ __forceinline__ void round(unsigned (&x)[4]) {{{rounded}}}
    static __device__ __forceinline__ void multiply(float (&sums)[4], const unsigned (&a)[4],
                                                    unsigned b0, unsigned b1) {{
        asm volatile("mma.sync.aligned.m16n8k{steps}.row.col.f32.{kind}.{kind}.f32 "
                     "{{%0, %1, %2, %3}}, {{%4, %5, %6, %7}}, {{%8, %9}}, {{%0, %1, %2, %3}};"
                     : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }}
}};"""


def _group_unit(name: str, inputs: str, tile: MatrixTile) -> str:
    """wgmma on operands of a dtype, 64 rows by so many columns."""
    kind, steps = _TYPES[inputs]
    count = tile.columns // 2  # of a thread
    sums = ", ".join(f'"+f"(sums[{i // 4}][{i % 4}])' for i in range(count))
    names = ", ".join(f"%{i}" for i in range(count))
    across = "" if kind == "tf32" else f", {int(not tile.left.along_sum)}, {int(not tile.right.along_sum)}"
    return f"""\
template <> struct {name} {{
    static __device__ __forceinline__ void multiply(float (&sums)[{tile.columns // _COLUMNS}][4],
                                                    unsigned long long left, unsigned long long right) {{
        asm volatile("{{ .reg .pred add; setp.eq.u32 add, 0, 0; "
                     "wgmma.mma_async.sync.aligned.m64n{tile.columns}k{steps}.f32.{kind}.{kind} "
                     "{{{names}}}, "
                     "%{count}, %{count + 1}, add, 1, 1{across}; }}"
                     : {sums}
                     : "l"(left), "l"(right));
    }}
}};"""
