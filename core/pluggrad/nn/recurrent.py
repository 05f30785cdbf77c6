"""Recurrent layers and their cells, with PyTorch's names, shapes and order of gates.

A layer is unrolled: its graph grows with the length of the sequence, and the first call for a length compiles
accordingly (a few seconds for a hundred steps, then found in the cache).
"""
from __future__ import annotations

import math
from typing import Any, ClassVar, TypeAlias

from pluggrad.errors import ShapeError, ValueRangeError
from pluggrad.nn.module import Module
from pluggrad.tensor import Tensor

State: TypeAlias = tuple[Tensor, ...]  # the output of a step, and what else goes into the next


# ---- one step: (input's share of the gates, the output's share, the state) to the new state ----------------
def _rnn_step(given: Tensor, recurrent: Tensor, state: State) -> State:
    return ((given + recurrent).tanh(),)


def _lstm_step(given: Tensor, recurrent: Tensor, state: State) -> State:
    take, keep, new, show = (given + recurrent).chunk(4, -1)
    cell = keep.sigmoid() * state[1] + take.sigmoid() * new.tanh()
    return show.sigmoid() * cell.tanh(), cell


def _gru_step(given: Tensor, recurrent: Tensor, state: State) -> State:
    reset, keep, new = given.chunk(3, -1)
    reset_too, keep_too, new_too = recurrent.chunk(3, -1)
    fresh = (new + (reset + reset_too).sigmoid() * new_too).tanh()
    share = (keep + keep_too).sigmoid()
    return (fresh + share * (state[0] - fresh),)


def _uniform(*shape: int, hidden_size: int) -> Tensor:
    bound = 1 / math.sqrt(hidden_size) if hidden_size > 0 else 0.0
    return Tensor.uniform(*shape, low=-bound, high=bound, requires_grad=True)


# ---- cells -------------------------------------------------------------------------------------------------
class _Cell(Module):
    """What cells share: two products, with gates * hidden_size columns each."""

    gates: ClassVar[int]

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        rows = self.gates * hidden_size
        self.weight_ih = _uniform(rows, input_size, hidden_size=hidden_size)
        self.weight_hh = _uniform(rows, hidden_size, hidden_size=hidden_size)
        self.bias_ih = _uniform(rows, hidden_size=hidden_size) if bias else None
        self.bias_hh = _uniform(rows, hidden_size=hidden_size) if bias else None

    def _shares(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        _check_width(type(self).__name__, x, self.input_size)
        return x.linear(self.weight_ih.T, self.bias_ih), h.linear(self.weight_hh.T, self.bias_hh)

    def _zeros(self, x: Tensor) -> Tensor:
        return Tensor.zeros(*x.shape[:-1], self.hidden_size, dtype=x.dtype, device=x.device,
                            requires_grad=False)

    def __repr__(self) -> str:
        bias = self.bias_ih is not None
        return f"{type(self).__name__}({self.input_size}, {self.hidden_size}, bias={bias})"


class LSTMCell(_Cell):
    """One step of `LSTM`: x (..., input_size) and (h, c), each (..., hidden_size), to the next (h, c).

    hc: zeros if left out. weight_ih: (4 hidden_size, input_size); weight_hh: (4 hidden_size, hidden_size);
    bias_ih, bias_hh: (4 hidden_size,) or None. All start uniform within 1/sqrt(hidden_size).
    """

    gates = 4

    def __call__(self, x: Tensor, hc: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        state = (self._zeros(x),) * 2 if hc is None else hc
        h, c = _lstm_step(*self._shares(x, state[0]), state)
        return h, c


class GRUCell(_Cell):
    """One step of `GRU`: x (..., input_size) and h (..., hidden_size), zeros if left out, to the next h.

    Weights as of `LSTMCell`, with 3 gates instead of 4.
    """

    gates = 3

    def __call__(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        before = self._zeros(x) if h is None else h
        return _gru_step(*self._shares(x, before), (before,))[0]


class RNNCell(_Cell):
    """One step of `RNN`: x (..., input_size) and h (..., hidden_size), zeros if left out, to the next h.

    Weights as of `LSTMCell`, with 1 gate instead of 4.
    """

    gates = 1

    def __call__(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        before = self._zeros(x) if h is None else h
        return _rnn_step(*self._shares(x, before), (before,))[0]


# ---- layers ------------------------------------------------------------------------------------------------
class _Recurrent(Module):
    """Cells of several layers, and perhaps both directions, along a sequence."""

    gates: ClassVar[int]
    states: ClassVar[int] = 1
    _advance: ClassVar[Any]

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False) -> None:
        if num_layers < 1:
            raise ValueRangeError(op=type(self).__name__, expected="at least 1 layer", got=str(num_layers))
        if not 0 <= dropout <= 1:
            raise ValueRangeError(op=type(self).__name__, expected="a dropout from 0 to 1", got=str(dropout))
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.bidirectional = bidirectional
        rows, directions = self.gates * hidden_size, 1 + bidirectional
        for layer in range(num_layers):
            width = input_size if layer == 0 else hidden_size * directions
            for name in self._suffixes(layer):
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, width),
                                                      "weight_hh": (rows, hidden_size)}
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
                for part, shape in shapes.items():
                    setattr(self, part + name, _uniform(*shape, hidden_size=hidden_size))

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", *[f"_l{layer}_reverse"] * self.bidirectional]

    def _run(self, x: Tensor, start: State | None) -> tuple[Tensor, State]:
        """The outputs of the last layer, and the last states of every layer and direction."""
        op = type(self).__name__
        _check_width(op, x, self.input_size)
        if x.ndim not in (2, 3):
            raise ShapeError(op=op, expected="(steps, batch, features), or (steps, features)",
                             got=str(x.shape))
        batched = x.ndim == 3
        steps = x if batched else x.unsqueeze(1)
        if batched and self.batch_first:
            steps = steps.transpose(0, 1)
        first = self._start(steps, start, batched)
        out, ends = self._layers(steps, first)
        if batched and self.batch_first:
            out = out.transpose(0, 1)
        return (out, ends) if batched else (out.squeeze(1), tuple([end.squeeze(1) for end in ends]))

    def _start(self, steps: Tensor, start: State | None, batched: bool) -> State:
        """The first states: (layers * directions, batch, hidden_size) each."""
        shape = (self.num_layers * (1 + self.bidirectional), steps.shape[1], self.hidden_size)
        if start is None:
            zeros = Tensor.zeros(*shape, dtype=steps.dtype, device=steps.device, requires_grad=False)
            return (zeros,) * self.states
        given = start if batched else tuple([state.unsqueeze(1) for state in start])
        for state in given:
            if state.shape != shape:
                expected = f"a first state of shape {shape if batched else (shape[0], shape[2])}"
                raise ShapeError(op=type(self).__name__, expected=expected,
                                 got=str(state.shape if batched else state.squeeze(1).shape))
        return given

    def _layers(self, steps: Tensor, first: State) -> tuple[Tensor, State]:
        ends: list[State] = []
        for layer in range(self.num_layers):
            outputs = []
            for suffix in self._suffixes(layer):
                state = tuple([part[len(ends)] for part in first])
                output, end = self._along(steps, state, suffix)
                outputs.append(output)
                ends.append(end)
            steps = outputs[0] if len(outputs) == 1 else outputs[0].cat(outputs[1], dim=-1)
            if layer + 1 < self.num_layers:
                steps = steps.dropout(self.dropout)
        return steps, tuple([Tensor.stack(*parts) for parts in zip(*ends, strict=True)])

    def _along(self, steps: Tensor, state: State, suffix: str) -> tuple[Tensor, State]:
        """One layer in one direction: all its outputs, in the order of the steps, and its last state."""
        w_ih, w_hh = getattr(self, "weight_ih" + suffix), getattr(self, "weight_hh" + suffix)
        b_ih, b_hh = getattr(self, "bias_ih" + suffix, None), getattr(self, "bias_hh" + suffix, None)
        shares = steps.linear(w_ih.T, b_ih)  # one product for all steps
        backward = suffix.endswith("_reverse")
        order = range(steps.shape[0])
        outputs = []
        for step in reversed(order) if backward else order:
            # what depends on the number of the step is but a copy, either way: all steps share their kernels
            given = shares[step].contiguous()
            state = self._advance(given, state[0].linear(w_hh.T, b_hh), state)
            outputs.append(state[0].contiguous_backward())
        if not outputs:
            return shares[..., : self.hidden_size], state
        return Tensor.stack(*(reversed(outputs) if backward else outputs)), state

    def __repr__(self) -> str:
        shown = {"num_layers": self.num_layers, "bias": self.bias, "batch_first": self.batch_first,
                 "dropout": self.dropout, "bidirectional": self.bidirectional}
        options = ", ".join(f"{name}={value}" for name, value in shown.items())
        return f"{type(self).__name__}({self.input_size}, {self.hidden_size}, {options})"


class LSTM(_Recurrent):
    """Long short-term memory over (steps, batch, input_size), or (steps, input_size) without a batch.

    `layer(x, (h, c))` gives `output, (h, c)`: output (steps, batch, directions * hidden_size) of the last
    layer; h and c (num_layers * directions, batch, hidden_size), zeros at first if left out. batch_first:
    x and output have the batch first. dropout: between layers, while `Tensor.training`. bidirectional: a
    second pass from the end, whose outputs stand behind those of the first.
    weight_ih_l0: (4 hidden_size, input_size), weight_hh_l0, bias_ih_l0, bias_hh_l0, and so on for l1 and
    l0_reverse; all start uniform within 1/sqrt(hidden_size). Gates in the order input, forget, cell, output.
    S. Hochreiter and J. Schmidhuber, "Long Short-Term Memory", 1997.
    """

    gates, states, _advance = 4, 2, staticmethod(_lstm_step)

    def __call__(self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None
                 ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        output, (h, c) = self._run(x, hx)
        return output, (h, c)


class GRU(_Recurrent):
    """Gated recurrent units; `layer(x, h)` gives `output, h`. Shapes, options and names as of `LSTM`.

    Gates in the order reset, update, new: 3 hidden_size rows.
    K. Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014.
    """

    gates, _advance = 3, staticmethod(_gru_step)

    def __call__(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        output, (h,) = self._run(x, None if hx is None else (hx,))
        return output, h


class RNN(_Recurrent):
    """tanh(W x + V h); `layer(x, h)` gives `output, h`. Shapes, options and names as of `LSTM`.

    J. L. Elman, "Finding Structure in Time", 1990.
    """

    gates, _advance = 1, staticmethod(_rnn_step)

    def __call__(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        output, (h,) = self._run(x, None if hx is None else (hx,))
        return output, h


def _check_width(op: str, x: Tensor, width: int) -> None:
    if not x.ndim or x.shape[-1] != width:
        raise ShapeError(op=op, expected=f"a last axis of {width}", got=str(x.shape))
