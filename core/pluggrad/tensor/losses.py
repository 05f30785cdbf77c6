"""Losses. `reduction` is "mean", "sum" or "none"; a loss of halves is computed in float32."""
from __future__ import annotations

import math
from typing import Any, Self

from pluggrad import dtypes
from pluggrad.errors import DTypeError, ShapeError, ValueRangeError
from pluggrad.graph import build, ops
from pluggrad.tensor.normalization import Normalization

_REDUCTIONS = ("mean", "sum", "none")
_STEEP = 1e-12  # probabilities below this have the logarithm's slope here


class Losses(Normalization):
    """Losses: of predictions (`self`) against targets `Y`."""

    __slots__ = ()

    def _target(self, op: str, Y: Any) -> Self:
        return self._new(self._operand(Y, op))

    def _reduced(self, op: str, reduction: str) -> Self:
        if reduction not in _REDUCTIONS:
            raise ValueRangeError(
                op=op, expected=f"reduction {', '.join(map(repr, _REDUCTIONS))}", got=repr(reduction)
            )
        return self.mean() if reduction == "mean" else self.sum() if reduction == "sum" else self

    def _same_shape(self, op: str, Y: Any) -> Self:
        y = self._target(op, Y)
        if y.shape != self.shape:
            raise ShapeError(op=op, expected=f"a target of shape {self.shape}", got=str(y.shape))
        return y

    def mse_loss(self, Y: Any, reduction: str = "mean") -> Self:
        """Squared differences. Shapes must be equal."""
        return (self._wide() - self._same_shape("mse_loss", Y)).square()._reduced("mse_loss", reduction)

    def l1_loss(self, Y: Any, reduction: str = "mean") -> Self:
        """Absolute differences. Shapes must be equal."""
        return (self._wide() - self._same_shape("l1_loss", Y)).abs()._reduced("l1_loss", reduction)

    def huber_loss(self, Y: Any, reduction: str = "mean", delta: float = 1.0) -> Self:
        """d*d/2 for differences up to `delta`, delta * (|d| - delta/2) beyond. Shapes must be equal."""
        size = (self._wide() - self._same_shape("huber_loss", Y)).abs()
        loss = (size <= delta).where(size.square() * 0.5, (size - 0.5 * delta) * delta)
        return loss._reduced("huber_loss", reduction)

    def smooth_l1_loss(self, Y: Any, reduction: str = "mean", beta: float = 1.0) -> Self:
        """`huber_loss` with delta = beta, divided by it."""
        if beta == 0:
            return self.l1_loss(Y, reduction)
        return self.huber_loss(Y, reduction, beta) * (1 / beta)

    def binary_crossentropy(self, Y: Any, reduction: str = "mean", *, weight: Any = None) -> Self:
        """-(y log p + (1 - y) log(1 - p)) of probabilities p; the logarithms count as at least -100.

        weight: multiplies the losses, and broadcasts against them.
        """
        p, y = self._wide(), self._same_shape("binary_crossentropy", Y)
        loss = y * p._bounded_log() + (1 - y) * (1 - p)._bounded_log()
        return (-loss)._times_weight("binary_crossentropy", weight)._reduced("binary_crossentropy", reduction)

    def binary_crossentropy_logits(self, Y: Any, reduction: str = "mean", pos_weight: Any = None, *,
                                   weight: Any = None) -> Self:
        """`binary_crossentropy` of sigmoid(x), without taking it; `pos_weight` multiplies the term of y = 1.
        """
        op = "binary_crossentropy_logits"
        x, y = self._wide(), self._same_shape(op, Y)
        positive, negative = -x.logsigmoid(), -(-x).logsigmoid()
        if pos_weight is not None:
            positive = positive * x._target(op, pos_weight)
        loss = y * positive + (1 - y) * negative
        return loss._times_weight(op, weight)._reduced(op, reduction)

    def _bounded_log(self) -> Self:
        """log of probabilities, at least -100, with a slope of at most 1e12: finite where they are 0."""
        steep = self < _STEEP
        constant = self._detached()
        line = steep.where((self - constant) / _STEEP, 0.0)  # 0, but for its gradient
        return steep.where(constant, self).log().maximum(-100.0) + line

    def _times_weight(self, op: str, weight: Any) -> Self:
        return self if weight is None else self * self._target(op, weight)

    def soft_margin_loss(self, Y: Any, reduction: str = "mean") -> Self:
        """log(1 + e ** (-y x)) for targets y of 1 and -1. Shapes must be equal."""
        x, y = self._wide(), self._same_shape("soft_margin_loss", Y)
        return (-y * x).softplus()._reduced("soft_margin_loss", reduction)

    def hinge_embedding_loss(self, Y: Any, margin: float = 1.0, reduction: str = "mean") -> Self:
        """The distance x where Y is 1, max(margin - x, 0) where Y is -1. Shapes must be equal."""
        x, y = self._wide(), self._same_shape("hinge_embedding_loss", Y)
        loss = y.eq(1).where(x, 0.0) + y.eq(-1).where((margin - x).maximum(0.0), 0.0)
        return loss._reduced("hinge_embedding_loss", reduction)

    def margin_ranking_loss(self, x2: Any, Y: Any, margin: float = 0.0, reduction: str = "mean") -> Self:
        """max(margin - y (x - x2), 0): y is 1 where x should be the larger, -1 where x2 should."""
        x, other = self._wide(), self._same_shape("margin_ranking_loss", x2)
        loss = (margin - self._target("margin_ranking_loss", Y) * (x - other)).maximum(0.0)
        return loss._reduced("margin_ranking_loss", reduction)

    def triplet_margin_loss(self, positive: Any, negative: Any, margin: float = 1.0, p: float = 2.0,
                            eps: float = 1e-06, reduction: str = "mean") -> Self:
        """max(d(x, positive) - d(x, negative) + margin, 0), d the p-norm of differences along the last axis.

        eps: added to each difference. Shapes (..., n) must be equal; the loss has shape (...).
        """
        op = "triplet_margin_loss"
        near, far = [(self._wide() - self._same_shape(op, other) + eps).abs().pow(p).sum(-1).pow(1 / p)
                     for other in (positive, negative)]
        return (near - far + margin).maximum(0.0)._reduced(op, reduction)

    def poisson_nll_loss(self, Y: Any, log_input: bool = True, full: bool = False, eps: float = 1e-08,
                         reduction: str = "mean") -> Self:
        """Negative log likelihood of counts Y: e**x - Y x, or x - Y log(x + eps) without `log_input`.

        full: adds Stirling's approximation of log(Y!), for Y above 1. Shapes must be equal.
        """
        x, y = self._wide(), self._same_shape("poisson_nll_loss", Y)
        loss = x.exp() - y * x if log_input else x - y * (x + eps).log()
        if full:
            large = (y > 1).where(y, 1.0)
            loss = loss + (y > 1).where(large * large.log() - large + 0.5 * (2 * math.pi * large).log(), 0.0)
        return loss._reduced("poisson_nll_loss", reduction)

    def gaussian_nll_loss(self, Y: Any, var: Any, full: bool = False, eps: float = 1e-06,
                          reduction: str = "mean") -> Self:
        """Negative log likelihood of Y under means x and variances: (log var + (x - Y)**2 / var) / 2.

        var: broadcasts against x; at least `eps`, which is held constant. full: adds log(2 pi) / 2.
        """
        x, y = self._wide(), self._same_shape("gaussian_nll_loss", Y)
        given = x._target("gaussian_nll_loss", var)._wide()
        spread = given + (given.maximum(eps) - given)._detached()
        loss = (spread.log() + (x - y).square() / spread) * 0.5 + (0.5 * math.log(2 * math.pi) * full)
        return loss._reduced("gaussian_nll_loss", reduction)

    def kl_div(self, Y: Any, reduction: str = "mean", log_target: bool = False) -> Self:
        """Divergence of probabilities Y from those whose logarithms these are: Y (log Y - x). Equal shapes.

        log_target: Y holds logarithms as well. reduction: also "batchmean", the sum by the size of axis 0,
        which is the divergence of distributions that lie along the other axes.
        """
        x, y = self._wide(), self._same_shape("kl_div", Y)
        if log_target:
            loss = y.exp() * (y - x)
        else:
            loss = y * y.eq(0).where(1.0, y).log() - y * x
        if reduction == "batchmean":
            return loss.sum() / max(self.shape[0] if self.shape else 1, 1)
        return loss._reduced("kl_div", reduction)

    def cosine_embedding_loss(self, x2: Any, Y: Any, margin: float = 0.0, reduction: str = "mean") -> Self:
        """1 - cos of the angle between vectors where Y is 1; max(cos - margin, 0) where Y is -1.

        Vectors lie along the last axis of shapes (..., n); Y: (...).
        """
        a, b = self._wide(), self._same_shape("cosine_embedding_loss", x2)._wide()
        y = self._target("cosine_embedding_loss", Y)
        if y.shape != self.shape[:-1]:
            expected = f"a target of shape {self.shape[:-1]}"
            raise ShapeError(op="cosine_embedding_loss", expected=expected, got=str(y.shape))
        lengths = (a.square().sum(-1) + 1e-12) * (b.square().sum(-1) + 1e-12)
        cos = (a * b).sum(-1) / lengths.sqrt()
        apart = y.eq(-1).where((cos - margin).maximum(0.0), 0.0)
        return y.eq(1).where(1 - cos, apart)._reduced("cosine_embedding_loss", reduction)

    def nll_loss(
        self, Y: Any, weight: Any = None, ignore_index: int | None = None, reduction: str = "mean"
    ) -> Self:
        """Negative log likelihood: of log probabilities with classes on axis 1 (axis 0 of a vector).

        Y: integers, the shape without the class axis. weight: one for each class; a mean divides by their
        sum.
        ignore_index: a label that does not count, whether it names a class or not. IndexError for any other
        label that names no class, when the result is computed.
        """
        labels = self._target("nll_loss", Y)
        chosen, weights = self._picked("nll_loss", labels, weight, ignore_index)
        return (-chosen * weights)._weighted_mean("nll_loss", weights, reduction)

    def cross_entropy(self, Y: Any, reduction: str = "mean", label_smoothing: float = 0.0, *,
                      weight: Any = None, ignore_index: int | None = None) -> Self:
        """-sum(y log softmax(x)) over the classes, which are axis 1 (axis 0 of a vector).

        Y: class numbers (integers, the shape without the class axis), or probabilities (floats of the same
        shape).
        label_smoothing: this share of each target is spread over all classes. weight and ignore_index as in
        `nll_loss`.
        """
        if not 0 <= label_smoothing <= 1:
            raise ValueRangeError(
                op="cross_entropy", expected="label_smoothing in [0, 1]", got=str(label_smoothing)
            )
        y, axis = self._target("cross_entropy", Y), min(1, self.ndim - 1)
        if y.shape == self.shape and y.dtype.is_float:
            return self._soft_cross_entropy(y, axis, reduction, label_smoothing, weight, ignore_index)
        log = self._wide().log_softmax(axis)
        chosen, weights = log._picked("cross_entropy", y, weight, ignore_index)
        loss = -chosen * weights
        if label_smoothing:
            spread = (
                log if weight is None else log * log._target("cross_entropy", weight)._along(axis, log.ndim)
            )
            even = spread.mean(axis)
            if ignore_index is not None:
                even = y.ne(ignore_index).where(even, 0.0)
            loss = loss * (1 - label_smoothing) - even * label_smoothing
        return loss._weighted_mean("cross_entropy", weights, reduction)

    def _soft_cross_entropy(self, y: Self, axis: int, reduction: str, label_smoothing: float, weight: Any,
                            ignore_index: int | None) -> Self:
        if ignore_index is not None:
            raise ValueRangeError(op="cross_entropy", expected="ignore_index with class numbers as targets",
                                  got="probabilities")
        if label_smoothing:
            y = y * (1 - label_smoothing) + label_smoothing / self.shape[axis]
        terms = y * self._wide().log_softmax(axis)
        if weight is not None:
            terms = terms * self._target("cross_entropy", weight)._along(axis, self.ndim)
        return (-terms.sum(axis))._reduced("cross_entropy", reduction)

    def sparse_categorical_crossentropy(self, Y: Any, ignore_index: int = -1, label_smoothing: float = 0.0,
                                        reduction: str = "mean") -> Self:
        """`cross_entropy` of integer labels, classes on the last axis; `ignore_index` does not count."""
        y = self._target("sparse_categorical_crossentropy", Y)
        flat = self.reshape(-1, self.shape[-1]) if self.ndim > 2 else self
        loss = flat.cross_entropy(y.flatten() if self.ndim > 2 else y, reduction, label_smoothing,
                                  ignore_index=ignore_index)
        return loss.reshape(y.shape) if reduction == "none" else loss

    def _picked(self, op: str, labels: Self, weight: Any, ignore_index: int | None) -> tuple[Self, Self]:
        """The value at each label's class, and each label's weight (0 where it does not count)."""
        if not self.ndim:
            raise ShapeError(op=op, expected="at least 1 dimension", got="()")
        axis = min(1, self.ndim - 1)
        classes = self.shape[axis]
        if labels.shape != self.shape[:axis] + self.shape[axis + 1 :]:
            raise ShapeError(
                op=op,
                expected=f"labels of shape {self.shape[:axis] + self.shape[axis + 1 :]}, or "
                f"probabilities of shape {self.shape}",
                got=str(labels.shape),
            )
        if not labels.dtype.is_int:
            raise DTypeError(op=op, expected="integer labels", got=labels.dtype.name)
        x = self._wide()
        if not classes:
            nothing = self._new(build.const(0.0, x.dtype, labels.node.device, labels.shape))
            return nothing, nothing
        counted = None if ignore_index is None else labels.ne(ignore_index)
        place = labels if counted is None else counted.where(labels, 0)
        place = place._checked_labels(op, classes).unsqueeze(axis)

        def at_label(values: Self) -> Self:
            found = self._new(build.gather(values.node, place.node, axis, None)).squeeze(axis)
            return found if counted is None else counted.where(found, 0.0)

        if weight is None:
            ones = build.const(1.0, x.dtype, labels.node.device, labels.shape)
            return at_label(x), self._new(ones) if counted is None else counted.cast(x.dtype)
        shares = self._target(op, weight).cast(x.dtype)._along(axis, self.ndim)
        return at_label(x), at_label(shares.expand(x.shape))

    def _checked_labels(self, op: str, classes: int) -> Self:
        """The same labels, which are reported where they name no class."""
        # unsigned: a negative label is no class counted from the end
        flat = build.reshape(build.cast(self.node, dtypes.uint64), (self.node.type.size,))
        numbers = build.iota(classes, dtypes.int32, self.node.device)
        return self._new(build.reshape(build.gather(numbers, flat, 0, ops.Check(op, None)), self.shape))

    def _weighted_mean(self, op: str, weights: Self, reduction: str) -> Self:
        return self.sum() / weights.sum() if reduction == "mean" else self._reduced(op, reduction)

    def _along(self, axis: int, rank: int) -> Self:
        """A weight for each class, shaped to broadcast along the class axis."""
        return self.reshape([-1 if i == axis else 1 for i in range(rank)])
