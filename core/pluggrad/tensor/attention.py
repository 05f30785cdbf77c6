"""Attention, and the iteration that makes a matrix orthogonal."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

from pluggrad.errors import DTypeError, ShapeError, ValueRangeError
from pluggrad.graph import build
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
        scale: 1 / sqrt(E) by default. A query that sees no key gives zeros. ShapeError if shapes do not fit.
        """
        op = "scaled_dot_product_attention"
        keys, values = self._new(self._operand(key, op)), self._new(self._operand(value, op))
        _check_attention(op, self.shape, keys.shape, values.shape)
        if enable_gqa:
            keys, values = (x._served_to(self.shape[-3:-2]) for x in (keys, values))
        factor = 1 / math.sqrt(self.shape[-1] or 1) if scale is None else scale
        scores = self._wide() @ keys._wide().mT * factor
        if is_causal and attn_mask is not None:
            raise ValueRangeError(op=op, expected="attn_mask or is_causal", got="both",
                                  hint="Put both into one mask: attn_mask.tril()")
        if is_causal:
            scores = scores._band(op, 0).where(scores, -math.inf)
        elif attn_mask is not None:
            scores = scores._masked_scores(attn_mask)
        weights = scores._masked_softmax()
        return (weights.dropout(dropout_p) @ values._wide())._narrow(self)

    def _served_to(self, heads: tuple[int, ...]) -> Self:
        """Each entry of axis -3 repeated in a row, until there is one for each of the queries' heads."""
        groups = self.shape[-3:-2]
        if not heads or not groups or groups[0] == 0 or heads[0] % groups[0]:
            raise ShapeError(op="scaled_dot_product_attention", got=f"{groups} for {heads} heads",
                             expected="with enable_gqa, heads on axis -3 that divide those of the queries")
        return self.repeat_interleave(heads[0] // groups[0], dim=-3)

    def _masked_scores(self, attn_mask: Any) -> Self:
        """-inf where a bool mask is false; a float mask is added."""
        op = "scaled_dot_product_attention"
        mask = build.broadcast_to(self._operand(attn_mask, op), self.shape, op)
        if mask.dtype.is_int:
            raise DTypeError(op=op, expected="a bool or float attn_mask", got=mask.dtype.name,
                             hint="For 0 and 1: attn_mask.bool()")
        return self._new(mask).where(self, -math.inf) if mask.dtype.kind == "b" else self + self._new(mask)

    def _masked_softmax(self) -> Self:
        """Softmax over the last axis; zeros where a row holds nothing but -inf."""
        if not self.shape[-1]:
            return self
        largest = self.max(-1, keepdim=True)._detached()
        grown = (self - largest.eq(-math.inf).where(0.0, largest)).exp()
        total = grown.sum(-1, keepdim=True)
        return grown / total.eq(0).where(1.0, total)

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


def _check_attention(op: str, query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...]) -> None:
    if min(len(query), len(key), len(value)) < 2:
        raise ShapeError(op=op, expected="at least 2 dimensions each", got=f"{query}, {key} and {value}")
    if query[-1] != key[-1] or key[-2] != value[-2]:
        raise ShapeError(op=op, expected="queries (..., L, E), keys (..., S, E) and values (..., S, Ev)",
                         got=f"{query}, {key} and {value}")
