"""Learn exclusive or: the smallest problem that a network without a hidden layer cannot learn.

    python examples/xor.py [--device NAME]        one of: python -m pluggrad devices
"""

from __future__ import annotations

import argparse
import sys

from pluggrad import Device, Tensor, nn, set_default_device
from pluggrad.errors import DeviceError

INPUTS = [[0, 0], [0, 1], [1, 0], [1, 1]]
TARGETS = [[0], [1], [1], [0]]


class Network:
    """Any object with tensors in its attributes, or in those of its attributes, is a model."""

    def __init__(self) -> None:
        self.hidden = nn.Linear(2, 8)
        self.output = nn.Linear(8, 1)

    def __call__(self, x: Tensor) -> Tensor:
        return self.output(self.hidden(x).tanh())


def train() -> None:
    print(f"device {Device.DEFAULT}")
    Tensor.manual_seed(0)
    x, y = Tensor(INPUTS), Tensor(TARGETS)
    model = Network()
    optimizer = nn.optim.Adam([model], lr=0.05)
    for step in range(300):
        loss = ((model(x).sigmoid() - y) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step:3d}  loss {loss.item():.4f}")
    for pair, output in zip(INPUTS, model(x).sigmoid().numpy(), strict=True):
        print(f"{pair[0]} xor {pair[1]} = {output.item():.3f}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Learn exclusive or.")
    parser.add_argument("--device", metavar="NAME", help="where to compute (default: the best installed)")
    device = parser.parse_args(arguments).device
    try:
        if device:
            set_default_device(device)
        train()
    except DeviceError as error:
        sys.exit(f"xor.py: {error}")


if __name__ == "__main__":
    main()
