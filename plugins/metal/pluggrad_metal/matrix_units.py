"""Products of matrices by simdgroups: panels in threadgroup memory, sums in 8 x 8 blocks of registers.

The simdgroups of a task form a grid over its sums, `down` of them along the rows, and each has every
`down`-th block of 8 rows. Which of its items holds which elements of a block is the hardware's affair:
blocks are loaded, multiplied and stored whole.
"""
from __future__ import annotations

from typing import Final, NamedTuple

from pluggrad.plugin_api import MatrixTile, MatrixUnit, Panel, Source

SIMDGROUP: Final = 32
_SIDE: Final = 8  # of a block
_SUMS_PER_ITEM: Final = 32  # more leave too few registers for operands


def unit(inputs: str) -> MatrixUnit:
    """The unit for a dtype. Its operands lie row by row."""
    return MatrixUnit(_SIDE, _SIDE, _SIDE, inputs, items=SIMDGROUP, sums_per_item=_SUMS_PER_ITEM,
                      piece_bytes=0)


class Layout(NamedTuple):
    """`down` simdgroups along the rows; each holds `rows` x `columns` blocks."""

    down: int
    rows: int
    columns: int


def layout(tile: MatrixTile, group: int) -> Layout:
    """How the simdgroups of a group share the sums of a tile: with the fewest operands to load."""
    simdgroups = group // SIMDGROUP
    fits = [down for down in range(1, simdgroups + 1) if simdgroups % down == 0
            and tile.rows % (_SIDE * down) == 0 and tile.columns % (_SIDE * simdgroups // down) == 0]
    down = min(fits, key=lambda d: tile.rows // d + tile.columns * d // simdgroups)
    return Layout(down, tile.rows // (_SIDE * down), tile.columns * down // (_SIDE * simdgroups))


def cleared(name: str, place: Layout, out: Source) -> str:
    """The statements that declare sums, all 0."""
    out.pieces.setdefault("clear_blocks", _CLEAR)
    return f"simdgroup_float8x8 {name}[{place.rows}][{place.columns}]; clear_blocks({name});"


def multiplied(name: str, tile: MatrixTile, operands: tuple[str, str], place: Layout, out: Source) -> str:
    """The statement that takes sums up by the product of two panels."""
    out.pieces.setdefault("load_block", _LOAD)
    out.pieces.setdefault("multiply_blocks", _MULTIPLY)
    left, right = [_lies(panel) for panel in (tile.left, tile.right)]
    return (f"multiply_blocks<{tile.steps}, {place.down}, {left}, {right}>({name}, {operands[0]}, "
            f"{operands[1]}, {_NUMBER});")


def stored(name: str, to: str, stride: int, place: Layout, out: Source) -> str:
    """The statement that stores sums, rows `stride` elements apart."""
    out.pieces.setdefault("store_blocks", _STORE)
    return f"store_blocks<{place.down}, {stride}>({name}, {to}, {_NUMBER});"


def _lies(panel: Panel) -> str:
    return f"{str(panel.along_sum).lower()}, {panel.stride}"


_NUMBER: Final = f"(ushort)item / {SIMDGROUP}"  # of the simdgroup
_CLEAR: Final = """\
template <int ROWS, int COLUMNS>
inline void clear_blocks(thread simdgroup_float8x8 (&sums)[ROWS][COLUMNS]) {
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLUMNS; j++) sums[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}"""
_LOAD: Final = """\
template <bool ACROSS, int STRIDE, typename T>
inline void load_block(thread simdgroup_matrix<T, 8, 8> &block, const threadgroup T *panel, int row,
                       int column) {
    if (ACROSS) simdgroup_load(block, panel + column * STRIDE + row, STRIDE, ulong2(0), true);
    else simdgroup_load(block, panel + row * STRIDE + column, STRIDE);
}"""
_MULTIPLY: Final = """\
template <int STEPS, int DOWN, bool LEFT_ALONG_SUM, int LEFT_STRIDE, bool RIGHT_ALONG_SUM, int RIGHT_STRIDE,
          typename T, int ROWS, int COLUMNS>
inline void multiply_blocks(thread simdgroup_float8x8 (&sums)[ROWS][COLUMNS], const threadgroup T *left,
                            const threadgroup T *right, ushort number) {
    const int row = number % DOWN, column = number / DOWN * COLUMNS;
    for (int step = 0; step < STEPS; step += 8) {
        simdgroup_matrix<T, 8, 8> a[ROWS], b[COLUMNS];
        for (int i = 0; i < ROWS; i++)
            load_block<!LEFT_ALONG_SUM, LEFT_STRIDE>(a[i], left, 8 * (row + DOWN * i), step);
        for (int j = 0; j < COLUMNS; j++)
            load_block<RIGHT_ALONG_SUM, RIGHT_STRIDE>(b[j], right, step, 8 * (column + j));
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < COLUMNS; j++)
                simdgroup_multiply_accumulate(sums[i][j], a[i], b[j], sums[i][j]);
    }
}"""
_STORE: Final = """\
template <int DOWN, int STRIDE, int ROWS, int COLUMNS>
inline void store_blocks(thread simdgroup_float8x8 (&sums)[ROWS][COLUMNS], threadgroup float *to,
                         ushort number) {
    const int row = number % DOWN, column = number / DOWN * COLUMNS;
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLUMNS; j++)
            simdgroup_store(sums[i][j], to + 8 * (row + DOWN * i) * STRIDE + 8 * (column + j), STRIDE);
}"""
