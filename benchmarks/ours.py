"""The workloads in pluggrad, written as its users would write them."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from workloads import ADAM, CHAIN, MLP_LAYERS, XOR_STEPS, Inputs

from pluggrad import Device, Tensor, jit, nn
from pluggrad.nn import Linear, optim

Call = Callable[[], object]


def _mlp_step(inputs: Inputs) -> Call:
    images, labels = (Tensor(array).realize() for array in inputs)
    first, second, third, last = MLP_LAYERS
    model = nn.Sequential(Linear(first, second), Tensor.relu, Linear(second, third), Tensor.relu,
                          Linear(third, last))
    optimizer = optim.Adam([model], **ADAM)

    @jit
    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(x).cross_entropy(y)
        loss.backward()
        optimizer.step()
        return loss

    return lambda: step(images, labels).item()


def _xor(_: Inputs) -> Call:
    def run() -> object:
        x, y = Tensor([[0, 0], [0, 1], [1, 0], [1, 1]]), Tensor([[0], [1], [1], [0]])
        model = Linear(2, 1)
        opt = optim.Adam([model], lr=0.1)
        for _ in range(XOR_STEPS):
            loss = ((model(x).sigmoid() - y) ** 2).mean()
            loss.backward()
            opt.step()
            opt.zero_grad()
        return loss.item()

    return run


def _eager_add(inputs: Inputs) -> Call:
    a, b = (Tensor(array).realize() for array in inputs)
    return lambda: (a + b).realize()


def _busy(a: Tensor) -> Tensor:
    for _ in range(CHAIN):
        a = a.sin() * a
    return a


_STEPS: Final[dict[str, Callable[[Inputs], Call]]] = {
    "mlp_step": _mlp_step,
    "xor1000": _xor,
    "eager_add": _eager_add,
}
_FUNCTIONS: Final[dict[str, Callable[..., Tensor]]] = {
    "fuse16m": lambda a, b, c: (a * b + c).relu() * 0.5,
    "sum16m": lambda a: a.sum(),
    "gemm512": lambda a, b: a @ b,
    "gemm1024": lambda a, b: a @ b,
    "gemv4096": lambda a, b: a @ b,
    "softmax4k": lambda a: a.softmax(1),
    "lnorm4k": lambda a: a.layernorm(),
    "transpose4k": lambda a: a.T.contiguous(),
    "tiny_add": lambda a, b: a + b,
    "busy_short": _busy,
    "busy_long": _busy,
}


def library() -> tuple[str, Callable[[str, Inputs], Call | None]]:
    """Version, and how to make the timed call of a workload."""
    import pluggrad

    Tensor.training = True
    device = Device[Device.DEFAULT]

    def make(name: str, inputs: Inputs) -> Call | None:
        if name in _STEPS:
            return _STEPS[name](inputs)
        function: Any = _FUNCTIONS.get(name)
        if function is None:
            return None
        captured = jit(function)
        tensors = [Tensor(array).realize() for array in inputs]

        def run() -> None:
            captured(*tensors)
            device.synchronize()

        return run

    return f"{pluggrad.__version__} on {Device.DEFAULT}", make
