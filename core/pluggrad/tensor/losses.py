"""Losses. `reduction` is "mean", "sum" or "none"; a loss of halves is computed in float32."""
from __future__ import annotations

from typing import Any, Self

from pluggrad.errors import DTypeError, ShapeError, ValueRangeError
from pluggrad.graph import build
from pluggrad.tensor.normalization import Normalization

_REDUCTIONS = ("mean", "sum", "none")


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

    def binary_crossentropy(self, Y: Any, reduction: str = "mean") -> Self:
        """-(y log p + (1 - y) log(1 - p)) of probabilities p; the logarithms count as at least -100."""
        p, y = self._wide(), self._same_shape("binary_crossentropy", Y)
        loss = y * p.log().maximum(-100.0) + (1 - y) * (1 - p).log().maximum(-100.0)
        return (-loss)._reduced("binary_crossentropy", reduction)

    def binary_crossentropy_logits(self, Y: Any, reduction: str = "mean", pos_weight: Any = None) -> Self:
        """`binary_crossentropy` of sigmoid(x), without taking it; `pos_weight` multiplies the term of y = 1.
        """
        x, y = self._wide(), self._same_shape("binary_crossentropy_logits", Y)
        positive, negative = -x.logsigmoid(), -(-x).logsigmoid()
        if pos_weight is not None:
            positive = positive * x._target("binary_crossentropy_logits", pos_weight)
        return (y * positive + (1 - y) * negative)._reduced("binary_crossentropy_logits", reduction)

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
        ignore_index: a label that does not count. A label that names no class does not count either.
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
            counts = 1.0 if ignore_index is None else y.ne(ignore_index).cast(log.dtype)
            loss = loss * (1 - label_smoothing) - spread.mean(axis) * label_smoothing * counts
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
        counted = (labels >= 0) & (labels < classes)
        if ignore_index is not None:
            counted = counted & labels.ne(ignore_index)
        if not classes:
            return counted.cast(x.dtype), counted.cast(x.dtype)  # nothing counts
        place = counted.where(labels, 0).unsqueeze(axis).node

        def at_label(values: Self) -> Self:
            found = build.gather(values.node, place, axis, None)
            return counted.where(self._new(found).squeeze(axis), 0.0)

        if weight is None:
            return at_label(x), counted.cast(x.dtype)
        shares = self._target(op, weight).cast(x.dtype)._along(axis, self.ndim)
        return at_label(x), at_label(shares.expand(x.shape))

    def _weighted_mean(self, op: str, weights: Self, reduction: str) -> Self:
        return self.sum() / weights.sum() if reduction == "mean" else self._reduced(op, reduction)

    def _along(self, axis: int, rank: int) -> Self:
        """A weight for each class, shaped to broadcast along the class axis."""
        return self.reshape([-1 if i == axis else 1 for i in range(rank)])
