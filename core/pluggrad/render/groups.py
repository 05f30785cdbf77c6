"""Reductions over the items of a group: within subgroups by registers, between them by shared memory."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from pluggrad.dtypes import DType
from pluggrad.render import elementwise
from pluggrad.render.arithmetic import Arithmetic
from pluggrad.render.source import Value, shared_name


def reduce_group(a: Arithmetic, op: str, dtype: DType, group: int, values: Sequence[Value]) -> list[Value]:
    """The value of all items combined, for each of `values`; who writes that memory again needs a barrier."""
    width = min(a.dialect.subgroup, group)
    if not width or width & (width - 1) or group % width:
        return _in_halves(a, op, dtype, group, values)
    totals = [_butterfly(a, op, dtype, group, width, value) for value in values]
    if group > width:
        return _through_memory(a, op, dtype, group // width, width, totals)
    a.out.do(a.dialect.barrier)
    return totals


def _butterfly(a: Arithmetic, op: str, dtype: DType, group: int, width: int, value: Value) -> Value:
    """Each item with the one opposite: after log2(width) steps all items of a subgroup have the same."""
    total = a.let(value)
    distance = width // 2
    while distance:
        other = a.dialect.exchange(total, distance, group, a.out)
        total = a.let(elementwise.binary(a, op, dtype, total, a.let(other)))
        distance //= 2
    return total


def _through_memory(a: Arithmetic, op: str, dtype: DType, count: int, width: int,
                    values: Sequence[Value]) -> list[Value]:
    """A value of each of `count` subgroups, which every item combines for itself, in the same order."""
    item = a.dialect.item
    places = [_shared(a, value, number * count, count) for number, value in enumerate(values)]
    with a.out.block(f"if ({item} % {width} == 0)"):
        for place, value in zip(places, values, strict=True):
            a.out.do(f"{place(f'{item} / {width}')} = {value.text};")
    a.out.do(a.dialect.barrier)
    totals = []
    for place, value in zip(places, values, strict=True):
        total, *rest = [value.named(place(str(number) if number else "")) for number in range(count)]
        for part in rest:
            total = a.let(elementwise.binary(a, op, dtype, total, part))
        totals.append(total)
    return totals


def _in_halves(a: Arithmetic, op: str, dtype: DType, group: int, values: Sequence[Value]) -> list[Value]:
    """Items of the upper half onto those of the lower until one is left."""
    item = a.dialect.item
    places = [_shared(a, value, number * group, group) for number, value in enumerate(values)]
    for place, value in zip(places, values, strict=True):
        a.out.do(f"{place(item)} = {value.text};")
    a.out.do(a.dialect.barrier)
    width = group
    while width > 1:
        half = (width + 1) // 2
        with a.out.block(f"if ({item} < {width - half})"):
            for place, value in zip(places, values, strict=True):
                low, high = (value.named(place(index)) for index in (item, f"{item} + {half}"))
                total = elementwise.binary(a, op, dtype, low, high)
                a.out.do(f"{place(item)} = {total.text};")
        a.out.do(a.dialect.barrier)
        width = half
    return [value.named(place("")) for place, value in zip(places, values, strict=True)]


def _shared(a: Arithmetic, value: Value, start: int, size: int) -> Callable[[str], str]:
    """`size` elements of the group's memory from `start` on, by an index, which may be empty."""
    kind = a.dialect.type(value.dtype, value.lanes, a.out)
    a.out.shared[kind] = max(a.out.shared.get(kind, 0), start + size)
    first = [str(start)] if start else []
    name = shared_name(kind)
    return lambda index: f"{name}[{' + '.join([*first, index] if index else first or ['0'])}]"
