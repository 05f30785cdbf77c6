"""Losses as layers, for those who build them once: the Tensor methods of the same names do as well."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from pluggrad.nn.module import Module
from pluggrad.tensor import Tensor


class _Loss(Module):
    """A Tensor method with its options: `loss(input, target)`."""

    method: ClassVar[Callable[..., Any]]

    def __init__(self, **options: Any) -> None:
        # weights are no parameters
        self.options = {name: value.detach().requires_grad_(False) if isinstance(value, Tensor) else value
                        for name, value in options.items()}

    def __call__(self, x: Tensor, *targets: Any) -> Any:
        return type(self).method(x, *targets, **self.options)

    def __repr__(self) -> str:
        shown = {name: value for name, value in self.options.items() if value is not None}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class MSELoss(_Loss):
    """Squared differences; see `Tensor.mse_loss`."""

    method = Tensor.mse_loss

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)


class L1Loss(MSELoss):
    """Absolute differences; see `Tensor.l1_loss`."""

    method = Tensor.l1_loss


class SmoothL1Loss(_Loss):
    """Squared differences up to `beta`, absolute ones beyond; see `Tensor.smooth_l1_loss`."""

    method = Tensor.smooth_l1_loss

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction=reduction, beta=beta)


class HuberLoss(_Loss):
    """Squared differences up to `delta`, absolute ones beyond; see `Tensor.huber_loss`."""

    method = Tensor.huber_loss

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction, delta=delta)


class BCELoss(_Loss):
    """Cross entropy of probabilities of two classes; see `Tensor.binary_crossentropy`."""

    method = Tensor.binary_crossentropy

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean") -> None:
        super().__init__(weight=weight, reduction=reduction)


class BCEWithLogitsLoss(_Loss):
    """Cross entropy of two classes before the sigmoid; see `Tensor.binary_crossentropy_logits`."""

    method = Tensor.binary_crossentropy_logits

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean",
                 pos_weight: Tensor | None = None) -> None:
        super().__init__(weight=weight, reduction=reduction, pos_weight=pos_weight)


class CrossEntropyLoss(_Loss):
    """Cross entropy of classes before the softmax, which lie on axis 1; see `Tensor.cross_entropy`."""

    method = Tensor.cross_entropy

    def __init__(self, weight: Tensor | None = None, ignore_index: int | None = None,
                 reduction: str = "mean", label_smoothing: float = 0.0) -> None:
        super().__init__(weight=weight, ignore_index=ignore_index, reduction=reduction,
                         label_smoothing=label_smoothing)


class NLLLoss(_Loss):
    """Negative log likelihood of log probabilities, with the classes on axis 1; see `Tensor.nll_loss`."""

    method = Tensor.nll_loss

    def __init__(self, weight: Tensor | None = None, ignore_index: int | None = None,
                 reduction: str = "mean") -> None:
        super().__init__(weight=weight, ignore_index=ignore_index, reduction=reduction)


class KLDivLoss(_Loss):
    """Divergence of probabilities from log probabilities; see `Tensor.kl_div`."""

    method = Tensor.kl_div

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction=reduction, log_target=log_target)


class CosineEmbeddingLoss(_Loss):
    """By the angle between two vectors: `loss(x1, x2, target)`; see `Tensor.cosine_embedding_loss`."""

    method = Tensor.cosine_embedding_loss

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(margin=margin, reduction=reduction)


class TripletMarginLoss(_Loss):
    """By two distances: `loss(anchor, positive, negative)`; see `Tensor.triplet_margin_loss`."""

    method = Tensor.triplet_margin_loss

    def __init__(self, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6,
                 reduction: str = "mean") -> None:
        super().__init__(margin=margin, p=p, eps=eps, reduction=reduction)
