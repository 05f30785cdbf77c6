"""The vocabulary of kernels: the graph's elementwise rows and the few that speak of loops and memory.

A kernel is a set of STOREs over a graph of these. Nothing is ordered: a node depends on the axes that it
reaches, a REDUCE binds its axes, and `lower` derives the loop nest. Only where tasks have local memory do
STOREs come one after another (order.py). Every node's type is a DType; indices are int64.
"""
from __future__ import annotations

from typing import Final

from pluggrad.graph.ops import ELEMENTWISE
from pluggrad.ir.node import Op

AXIS = Op("AXIS", "index", 0, "the position along axis `arg` (an Axis id)")
CONST = Op("CONST", "leaf", 0, "arg: ConstBits, a value that is part of the code")
VALUE = Op("VALUE", "leaf", 0, "run-time value in slot `arg`")
LOAD = Op("LOAD", "memory", -1, "buffer `arg` at element src[0]; 0 where the gate src[1], if any, is false")
STORE = Op("STORE", "memory", -1, "arg: (buffer, axes it ranges over[, name of ADD, MUL, MAX or MIN: "
           "combines with what is there]); src: index, value[, gate]. What meets in one element along a LOOP "
           "axis is stored in order")
REDUCE = Op("REDUCE", "reduce", 1, "arg: (name of ADD, MUL, MAX or MIN, axes bound)")
SCAN = Op("SCAN", "reduce", 1, "arg: (name of ADD, MUL, MAX or MIN, axis): src[0] at positions 0 to the "
          "present one of a LOOP axis combined, in their order. No loop that src[0] depends on lies within "
          "that one")
TALLY = Op("TALLY", "memory", -1, "arg: (buffer, axis): at how many earlier positions along a LOOP axis "
           "src[0], an element of the buffer, was the same; a STORE by ADD counts that there. Of any value "
           "where the gate src[1], if any, is false")
TAIL = Op("TAIL", "index", 1, "bool, arg (outer, factor, extent): the position src[0] = outer*factor + ... "
          "is below extent; true wherever axis `outer` is below extent // factor")
HEAD = Op("HEAD", "index", 1, "bool, arg: outer axis; the position src[0] = outer*factor + ... - shift is at "
          "least 0; true wherever axis `outer` is above 0")
PREFETCH = Op("PREFETCH", "hint", 2, "src[0]; element src[1] of buffer `arg`, which may lie beyond its end, "
              "will be read soon")
CDIV = Op("CDIV", "index", 2, "integer division toward zero; the divisor is never 0 and nothing overflows")
CMOD = Op("CMOD", "index", 2, "remainder of CDIV")
DOT2 = Op("DOT2", "dot", 3, "a, x, y -> a + x.low * y.low + x.high * y.high in float32, in any order of "
          "rounding; x and y are uint32 whose halves are bfloat16. What is below the smallest normal "
          "number may count as 0")

KERNEL_OPS: Final[dict[str, Op]] = {
    op.name: op for op in (
        AXIS, CONST, VALUE, LOAD, STORE, REDUCE, SCAN, TALLY, TAIL, HEAD, PREFETCH, CDIV, CMOD, DOT2,
        *ELEMENTWISE)}
