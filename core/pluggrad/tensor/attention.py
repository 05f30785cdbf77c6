"""Attention, and the iteration that makes a matrix orthogonal."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from pluggrad.dtypes import DType
from pluggrad.errors import DTypeError, ShapeError, ValueRangeError
from pluggrad.graph import build, custom, products
from pluggrad.ir.node import Node
from pluggrad.tensor.grad_mode import enable_grad, mode
from pluggrad.tensor.losses import Losses


class Attention(Losses):
    """What transformers and their optimizers compute with products."""

    __slots__ = ()

    def scaled_dot_product_attention(
        self, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
        enable_gqa: bool = False, *, scale: float | None = None,
    ) -> Self:
        """softmax(self @ key.mT * scale + mask) @ value, the softmax over the keys in float32 at least.

        self: queries (..., L, E). key: (..., S, E). value: (..., S, Ev). The result is (..., L, Ev), leading
        axes broadcast. attn_mask: broadcasts to (..., L, S); bool: which keys a query sees, else added.
        is_causal: query i sees keys 0 to i. dropout_p: drops weights while `Tensor.training`. enable_gqa:
        axis -3 of key and value has a divisor of the queries' heads, each serving as many heads in a row.
        scale: 1 / sqrt(E) by default. A query that sees no key gives zeros. If all three
        are of one 16-bit dtype, weights and what their gradients multiply may be rounded to it. ShapeError if
        shapes do not fit.
        """
        op = "scaled_dot_product_attention"
        keys, values = self._new(self._operand(key, op)), self._new(self._operand(value, op))
        _check_attention(op, self.shape, keys.shape, values.shape)
        if is_causal and attn_mask is not None:
            raise ValueRangeError(op=op, expected="attn_mask or is_causal", got="both",
                                  hint="Put both into one mask: attn_mask.tril()")
        if enable_gqa:
            keys, values = (x._served_to(self.shape[-3:-2]) for x in (keys, values))
        factor = 1 / math.sqrt(self.shape[-1] or 1) if scale is None else scale
        operands = [self._wide(), keys._wide(), values._wide()]
        if attn_mask is not None:
            operands.append(self._new(self._operand(attn_mask, op)))
        alike = self.dtype is keys.dtype is values.dtype
        factors = self.dtype if alike and self.dtype.itemsize == 2 else operands[0].dtype
        affinities = (operands[0] @ operands[1].mT)._gradient_to_nearest(factors)
        scores = affinities._scores(factor, is_causal, *operands[3:])
        result = scores._masked_softmax().dropout(dropout_p)._to_nearest(factors) @ operands[2]
        if mode.enabled and not dropout_p and scores.node.type.size >= products.MANY:
            rule = _AttentionRule(type(self), factor, is_causal, factors)
            result = result._attended(scores, operands, rule)
        return result._narrow(self)

    def _scores(self, factor: float, is_causal: bool, *attn_mask: Self) -> Self:
        """How much each query attends to each key, as logarithms: (..., L, S), from products of both."""
        scores = self * factor
        if is_causal:
            return scores._band("scaled_dot_product_attention", 0).where(scores, -math.inf)
        return scores._masked_scores(*attn_mask) if attn_mask else scores

    def _attended(self, scores: Self, operands: Sequence[Self], rule: _AttentionRule) -> Self:
        """The result of attention, whose gradient computes the scores again instead of having them kept."""
        largest = scores._row_maximum()
        total = (scores - largest).exp().sum(-1, keepdim=True)
        level = build.contiguous((largest + total.eq(0).where(1.0, total).log()).node)
        inputs = [x.node for x in operands]
        result, = custom.custom_vjp([self.node], inputs, [self.node, level, *inputs], rule)
        return self._new(result)

    def _to_nearest(self, dtype: DType) -> Self:
        """The nearest values of `dtype`, in the dtype of before; the gradient passes as it is."""
        if dtype is self.dtype:
            return self
        nearest = build.cast(build.cast(self.node, dtype), self.dtype)
        return self._new(custom.custom_vjp([nearest], [self.node], [], _unrounded)[0])

    def _gradient_to_nearest(self, dtype: DType) -> Self:
        """The same values, whose gradient is rounded to `dtype` before it is passed on."""
        if dtype is self.dtype:
            return self
        rule = _GradientRounding(type(self), dtype)
        return self._new(custom.custom_vjp([self.node], [self.node], [], rule)[0])

    def _served_to(self, heads: tuple[int, ...]) -> Self:
        """Each entry of axis -3 repeated in a row, until there is one for each of the queries' heads."""
        groups = self.shape[-3:-2]
        if not heads or not groups or groups[0] == 0 or heads[0] % groups[0]:
            raise ShapeError(op="scaled_dot_product_attention", got=f"{groups} for {heads} heads",
                             expected="with enable_gqa, heads on axis -3 that divide those of the queries")
        return self.repeat_interleave(heads[0] // groups[0], dim=-3)

    def _masked_scores(self, attn_mask: Self) -> Self:
        """-inf where a bool mask is false; a float mask is added."""
        op = "scaled_dot_product_attention"
        mask = build.broadcast_to(attn_mask.node, self.shape, op)
        if mask.dtype.is_int:
            raise DTypeError(op=op, expected="a bool or float attn_mask", got=mask.dtype.name,
                             hint="For 0 and 1: attn_mask.bool()")
        return self._new(mask).where(self, -math.inf) if mask.dtype.kind == "b" else self + self._new(mask)

    def _masked_softmax(self) -> Self:
        """Softmax over the last axis; zeros where a row holds nothing but -inf."""
        if not self.shape[-1]:
            return self
        grown = (self - self._row_maximum()).exp()
        total = grown.sum(-1, keepdim=True)
        return grown / total.eq(0).where(1.0, total)

    def _row_maximum(self) -> Self:
        """The maximum of each row, through which no gradient flows; 0 where a row holds nothing but -inf."""
        largest = self.max(-1, keepdim=True)._detached()
        return largest.eq(-math.inf).where(0.0, largest)

    def newton_schulz(self, steps: int, params: Sequence[float], eps: float = 1e-07) -> Self:
        """The matrices (..., m, n) divided by their Frobenius norm plus `eps`, then `steps` times X becomes
        params[0] X + params[1] (X X^T) X + params[2] (X X^T)^2 X + ...

        With suitable `params` the singular values come close to 1. Computed with the shorter side first.
        """
        if self.ndim < 2:
            raise ShapeError(op="newton_schulz", expected="at least 2 dimensions", got=str(self.shape))
        if not params:
            raise ValueRangeError(op="newton_schulz", expected="at least one coefficient", got=str(params))
        x = self._as_float()
        x = x / (x.square().sum((-2, -1), keepdim=True).sqrt() + eps)
        tall = x.shape[-2] > x.shape[-1]
        x = x.mT if tall else x
        for _ in range(steps):
            square, power = x @ x.mT, x
            total = power * params[0]
            for coefficient in params[1:]:
                power = square @ power
                total = total + power * coefficient
            x = total
        return x.mT if tall else x


class _AttentionRule(NamedTuple):
    """The gradients of attention, from weights that are computed again as exp(scores - level).

    Saved are the result, for each query the level (the logarithm of its sum of exponentials), and the inputs:
    queries, keys, values and a mask, if there is one. factors: the dtype to which those of products may be
    rounded.
    """

    family: type[Attention]
    factor: float
    is_causal: bool
    factors: DType

    def __call__(self, saved: tuple[Node, ...], gradients: tuple[Node | None, ...]) -> Sequence[Node | None]:
        result, level, *operands = [self.family._of(n) for n in saved]
        queries, keys, values, *attn_mask = operands
        given = gradients[0]
        assert given is not None
        with enable_grad():
            g = self.family._of(build.contiguous(build.cast(given, self.factors)))._wide()
            scores = (queries @ keys.mT)._scores(self.factor, self.is_causal, *attn_mask)
            weights = (scores - level).exp()
            by_scores = weights * (g @ values.mT - (g * result).sum(-1, keepdim=True))
            by_products = (by_scores * self.factor)._to_nearest(self.factors)
            found = [by_products @ keys, by_products.mT @ queries, weights._to_nearest(self.factors).mT @ g]
            found += [by_scores] * len(attn_mask)
            return [_summed(x, to).node for x, to in zip(found, operands, strict=True)]


class _GradientRounding(NamedTuple):
    """Passes the nearest values of `dtype` on."""

    family: type[Attention]
    dtype: DType

    def __call__(self, saved: tuple[Node, ...], gradients: tuple[Node | None, ...]) -> Sequence[Node | None]:
        return [None if g is None else self.family._of(g)._to_nearest(self.dtype).node for g in gradients]


def _unrounded(saved: tuple[Node, ...], gradients: tuple[Node | None, ...]) -> Sequence[Node | None]:
    return gradients


def _summed(x: Attention, to: Attention) -> Attention:
    """`x` over the axes along which `to` was broadcast."""
    missing = x.ndim - to.ndim
    stretched = [i + missing for i, d in enumerate(to.shape) if d == 1 != x.shape[i + missing]]
    axes = (*range(missing), *stretched)
    return x._new(build.contiguous(x.node)).sum(axes).reshape(to.shape) if axes else x


def _check_attention(op: str, query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...]) -> None:
    if min(len(query), len(key), len(value)) < 2:
        raise ShapeError(op=op, expected="at least 2 dimensions each", got=f"{query}, {key} and {value}")
    if query[-1] != key[-1] or key[-2] != value[-2]:
        raise ShapeError(op=op, expected="queries (..., L, E), keys (..., S, E) and values (..., S, Ev)",
                         got=f"{query}, {key} and {value}")
