"""Learn exclusive or: the smallest problem that a network without a hidden layer cannot learn.

    python examples/xor.py [--device NAME]        one of: python -m pluggrad devices
"""

from __future__ import annotations

import argparse
import sys

from tqdm.auto import trange

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


def train(seed: int) -> None:
    print(f"device {Device.DEFAULT}")
    Tensor.manual_seed(seed)  # the weights that training starts from
    x, y = Tensor(INPUTS), Tensor(TARGETS)
    model = Network()
    optimizer = nn.optim.Adam([model], lr=0.05)
    bar = trange(300)
    for step in bar:
        loss = ((model(x).sigmoid() - y) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
    for pair, output in zip(INPUTS, model(x).sigmoid().numpy(), strict=True):
        print(f"{pair[0]} xor {pair[1]} = {output.item():.3f}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Learn exclusive or.")
    parser.add_argument("--device", metavar="NAME", help="where to compute (default: the best installed)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="for the weights at the start (0)")
    options = parser.parse_args(arguments)
    try:
        if options.device:
            set_default_device(options.device)
        train(options.seed)
    except DeviceError as error:
        sys.exit(f"xor.py: {error}")


if __name__ == "__main__":
    main()
