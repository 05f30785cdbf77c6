"""Training steps: networks and optimizers give what the reference device gives."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from pluggrad import jit
from pluggrad.device.registry import REGISTRY
from pluggrad.nn import BatchNorm2d, Conv2d, Embedding, Linear, optim
from pluggrad.nn.state import get_parameters
from pluggrad.tensor import Tensor
from pluggrad.testing.conformance import samples
from pluggrad.testing.conformance.registry import conformance, product
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject

_STEPS: Final = 3


class _Dense:
    """Two linear layers."""

    def __init__(self) -> None:
        self.first, self.last = Linear(12, 16), Linear(16, 5)

    def __call__(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu())

    @staticmethod
    def inputs(rng: np.random.Generator) -> Any:
        return rng.normal(0, 1, (9, 12)).astype(np.float32)


class _Convolutional:
    """A convolution, batch normalization, pooling."""

    def __init__(self) -> None:
        # without a bias, whose gradient would be the rounding errors of a sum that is 0
        self.conv, self.norm = Conv2d(2, 6, 3, padding=1, bias=False), BatchNorm2d(6)
        self.last = Linear(6 * 16, 5)

    def __call__(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.conv(x)).relu().max_pool2d((2, 2)).reshape(x.shape[0], -1))

    @staticmethod
    def inputs(rng: np.random.Generator) -> Any:
        return rng.normal(0, 1, (9, 2, 8, 8)).astype(np.float32)


class _Embedded:
    """An embedding, averaged."""

    def __init__(self) -> None:
        self.table, self.last = Embedding(30, 8), Linear(8, 5)

    def __call__(self, x: Tensor) -> Tensor:
        return self.last(self.table(x).mean(1))

    @staticmethod
    def inputs(rng: np.random.Generator) -> Any:
        return rng.integers(0, 30, (9, 7)).astype(np.int32)


_MODELS: Final[Mapping[str, type[Any]]] = {
    "linear": _Dense, "convolution": _Convolutional, "embedding": _Embedded}
_OPTIMIZERS: Final[Mapping[str, Callable[..., Any]]] = {
    "sgd": lambda params: optim.SGD(params, lr=0.1, momentum=0.9),
    "adam": lambda params: optim.Adam(params, lr=0.01)}


class _Trainer:
    """A network and its optimizer. A method: what jit finds through its object is the state of a replay."""

    def __init__(self, model: str, optimizer: str) -> None:
        self.network = _MODELS[model]()
        self.parameters = get_parameters(self.network)
        self.optimizer = _OPTIMIZERS[optimizer](self.parameters)

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        loss: Tensor = self.network(x).cross_entropy(y)
        loss.backward()
        self.optimizer.step()
        return loss.realize()


def _trained(device: str, model: str, optimizer: str, captured: bool) -> list[Any]:
    """The losses, then the parameters, after a few steps on a device."""
    with REGISTRY.scoped(device), Tensor.train():
        Tensor.manual_seed(3)
        trainer = _Trainer(model, optimizer)
        step = jit(trainer.step) if captured else trainer.step
        losses = []
        for number in range(_STEPS):
            rng = samples.seeded("steps", model, str(number))
            x = Tensor(trainer.network.inputs(rng))
            losses.append(step(x, Tensor(rng.integers(0, 5, 9).astype(np.int32))).numpy())
        return [np.array(losses), *[each.numpy() for each in trainer.parameters]]


@conformance("L3", cases=product(model=_MODELS, optimizer=_OPTIMIZERS, captured=("eager", "captured")),
             requires=requires(dtype=("float32", "int32", "uint32", "bool")),
             suggests="a training step of a {model} network with {optimizer} is not that of the reference")
def steps(subject: Subject, model: str, optimizer: str, captured: str) -> None:
    """Losses and parameters after three steps are those of the reference device."""
    have = _trained(subject.name, model, optimizer, captured == "captured")
    want = _trained("ref", model, optimizer, False)
    for place, (found, expected) in enumerate(zip(have, want, strict=True)):
        what = "losses" if place == 0 else f"parameter {place}"
        subject.expect(found, expected, "float32", "sum", op=f"{what} of {model} with {optimizer}")
