"""Teach a network that reads digits to tell even ones from odd ones, by very few examples.

    python examples/fine_tune.py                   learns to read first, and saves the weights
    python examples/fine_tune.py --weights FILE    begins with weights that an earlier run has saved
    python examples/fine_tune.py --device NAME     one of: python -m pluggrad devices

The body of the network turns images into features, and the head features into answers. A new question needs a
new head. The body is kept: as it is while the head is fitted to it, then it may change a little as well.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm.auto import tqdm

from pluggrad import Device, Tensor, jit, nn, set_default_device
from pluggrad.data import digits
from pluggrad.errors import UserError

DIGITS, PARITIES = 10, 2  # answers to the old question and to the new one
LEARNING_RATE, LOWER_RATE = 3e-3, 3e-4  # the lower one is for a body that knows something


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.GroupNorm(4, outputs),  # unlike batch norm it keeps no statistics of what it has seen
        Tensor.relu,
    )


class Network:
    """Images (n, 1, 8, 8) to logits (n, classes)."""

    def __init__(self, classes: int) -> None:
        self.body = nn.Sequential(
            convolution(1, 32), nn.MaxPool2d(2),
            convolution(32, 64), nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Linear(64 * 2 * 2, classes)

    def __call__(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))


Labeled = tuple[Tensor, Tensor]


def first_of_each(images: Tensor, labels: Tensor, count: int) -> Labeled:
    """The first `count` images of each digit."""
    chosen = Tensor.cat(*[(labels == digit).nonzero()[:count, 0] for digit in range(DIGITS)])
    return images[chosen], labels[chosen]


def fit(model: Network, part: object, lr: float, data: Labeled, steps: int, title: str) -> None:
    """Change the tensors of `part` of the model, so that its answers fit."""
    images, labels = data
    optimizer = nn.optim.AdamW([part], lr=lr)

    @jit
    def step() -> Tensor:
        chosen = Tensor.randint(32, high=len(images))
        optimizer.zero_grad()
        loss = model(images[chosen]).cross_entropy(labels[chosen])
        loss.backward()
        optimizer.step()
        return loss

    interval = 0.1 if sys.stderr.isatty() else 5.0  # in a log file the bar is a line now and then
    with tqdm(total=steps, desc=f"{title:24}", unit=" steps", mininterval=interval) as bar:
        for _ in range(steps):
            bar.set_postfix(loss=f"{step().item():.4f}", refresh=False)
            bar.update()


def accuracy(model: Network, data: Labeled) -> float:
    images, labels = data
    with Tensor.no_grad():
        return float((model(images).argmax(1) == labels).float().mean().item())


def show(title: str, share: float) -> None:
    print(f"{title:24} {'#' * round(40 * share):40} {share:6.1%}")


def reader(options: argparse.Namespace, train: Labeled, test: Labeled) -> Path:
    """The file with the weights of a network that reads digits: the one that is given, or a new one."""
    if options.weights:
        return Path(options.weights)
    model = Network(DIGITS)
    fit(model, model, LEARNING_RATE, train, options.steps, "reading digits")
    options.out.mkdir(parents=True, exist_ok=True)
    path: Path = options.out / "reader.safetensors"
    nn.state.safe_save(nn.state.get_state_dict(model), path)
    print(f"weights: {path}, of a network that reads {accuracy(model, test):.1%} of the test images rightly")
    return path


def run(options: argparse.Namespace) -> None:
    if options.device:
        set_default_device(options.device)
    print(f"device {Device.DEFAULT}")
    Tensor.manual_seed(options.seed)
    data = digits()
    train, test = (data.X_train.float(), data.Y_train), (data.X_test.float(), data.Y_test)
    weights = nn.state.safe_load(reader(options, train, test))

    images, labels = first_of_each(*train, options.images)
    train, test = (images, labels % 2), (test[0], test[1] % 2)
    scratch = Network(PARITIES)
    fit(scratch, scratch, LEARNING_RATE, train, options.steps, "from scratch")

    model = Network(PARITIES)
    # all of the body, and nothing of the old head
    body = {name.removeprefix("body."): weights[name] for name in weights if name.startswith("body.")}
    nn.state.load_state_dict(model.body, body)
    before = accuracy(model, test)
    for tensor in nn.state.get_parameters(model.body):
        tensor.requires_grad_(False)  # frozen: no gradient is computed for it
    fit(model, model.head, LEARNING_RATE, train, options.steps, "a new head")
    frozen = accuracy(model, test)
    for tensor in nn.state.get_parameters(model.body):
        tensor.requires_grad_()
    fit(model, model, LOWER_RATE, train, options.steps, "head and body")

    print(f"\n{len(train[0])} images to learn from; of {len(test[0])} test images, even and odd told apart:")
    show("the body, a random head", before)
    show("from scratch", accuracy(scratch, test))
    show("the body, a new head", frozen)
    show("then both", accuracy(model, test))


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Teach a network a new question by few examples.")
    add = parser.add_argument
    add("--weights", metavar="FILE", type=Path, help="of a network that reads digits (default: train one)")
    add("--device", metavar="NAME", help="where to compute (default: the best that is installed)")
    add("--images", metavar="N", type=int, default=2, help="of each digit to learn from (2)")
    add("--steps", metavar="N", type=int, default=300, help="of each training (300)")
    add("--seed", metavar="N", type=int, default=0, help="weights and batches (0)")
    add("--out", metavar="FOLDER", type=Path, default=Path("runs", "fine_tune"),
        help="where the weights go (runs/fine_tune)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = read_options(arguments)
    try:
        run(options)
    except (UserError, OSError) as error:
        sys.exit(f"fine_tune.py: {error}")


if __name__ == "__main__":
    main()
