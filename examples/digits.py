"""Train a convolutional network to read handwritten digits, check it, save it, and draw what it got wrong.

    python examples/digits.py                     the 1,797 digits that come with pluggrad, 8 x 8 pixels
    python examples/digits.py --data FOLDER       MNIST's files, 28 x 28 pixels
    python examples/digits.py --device NAME       one of: python -m pluggrad devices
    python examples/digits.py --profile FILE      time each kernel; https://ui.perfetto.dev shows the file
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from tqdm.auto import tqdm

from pluggrad import Device, Tensor, jit, nn, profile, set_default_device
from pluggrad.data import digits, mnist
from pluggrad.errors import UserError

Array: TypeAlias = npt.NDArray[Any]
PEAK_LR = 5e-3
LABEL_SMOOTHING = 0.1  # targets are 0.91 for the right digit and 0.01 for the others: surer is no better
SHOWN = 40  # wrongly read images in the picture


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    """(n, inputs, height, width) to (n, outputs, height, width): each pixel from the 3 x 3 around it."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),  # the normalization adds a bias of its own
        nn.BatchNorm2d(outputs),
        Tensor.relu,
    )


def network(side: int) -> nn.Sequential:
    """Images (n, 1, side, side) to logits (n, 10): how much speaks for each digit."""
    return nn.Sequential(
        convolution(1, 32),
        nn.MaxPool2d(2),  # halves height and width
        convolution(32, 32),
        convolution(32, 64),
        nn.MaxPool2d(2),
        convolution(64, 64),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(64 * (side // 8) ** 2, 10),
    )


def moved(images: Array, random: np.random.Generator) -> Array:
    """Each image (n, 1, side, side) moved by up to one pixel, so that epochs differ in what they show."""
    padded = np.pad(images, [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = sliding_window_view(padded, images.shape[2:], axis=(2, 3))  # (n, 1, 3, 3, side, side), no copy
    down, right = random.integers(3, size=(2, len(images)))
    return windows[np.arange(len(images)), :, down, right]


def train(model: nn.Sequential, images: Array, labels: Array, options: argparse.Namespace) -> list[float]:
    """Fit the model by AdamW, the learning rate falling along a cosine; the loss of every step."""
    optimizer = nn.optim.AdamW([model], lr=PEAK_LR)

    @jit  # the first call records what is computed, the others repeat it without Python in between
    def step(batch_images: Tensor, batch_labels: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(batch_images).cross_entropy(batch_labels, label_smoothing=LABEL_SMOOTHING)
        loss.backward()
        optimizer.step()
        return loss

    random, losses = np.random.default_rng(options.seed), list[float]()
    full = len(images) // options.batch * options.batch  # the rest waits for the next epoch's order
    steps = options.epochs * full // options.batch
    # in a log file the bar is a line now and then
    interval = 0.1 if sys.stderr.isatty() else 5.0
    with tqdm(total=options.epochs * full, unit=" images", unit_scale=True, mininterval=interval) as bar:
        for _ in range(options.epochs):
            for chosen in random.permutation(len(images))[:full].reshape(-1, options.batch):
                optimizer.lr = PEAK_LR / 2 * (1 + math.cos(math.pi * len(losses) / steps))
                batch = Tensor(moved(images[chosen], random)), Tensor(labels[chosen])
                losses.append(step(*batch).item())
                bar.set_postfix(loss=f"{losses[-1]:.4f}", refresh=False)
                bar.update(len(chosen))
    return losses


def logits(model: nn.Sequential, images: Array) -> Array:
    """The network's output (n, 10), up to 1000 images at a time: the layers of all would fill the memory."""
    parts = np.array_split(images, math.ceil(len(images) / 1000))
    with Tensor.no_grad():
        return np.concatenate([model(Tensor(part)).numpy() for part in parts])


def accuracy(model: nn.Sequential, images: Array, labels: Array) -> float:
    return float((logits(model, images).argmax(axis=1) == labels).mean())


def check_round_trip(model: nn.Sequential, images: Array, path: Path) -> None:
    """Save the model, load it into a fresh one, and compare their answers."""
    nn.state.safe_save(nn.state.get_state_dict(model), path)
    fresh = network(images.shape[-1])
    nn.state.load_state_dict(fresh, nn.state.safe_load(path))
    if not np.array_equal(logits(fresh, images), logits(model, images)):
        sys.exit(f"{path}: the loaded network gives other answers than the one that was saved")
    print(f"checkpoint: {path}, loaded into a fresh network: same answers")


def draw(losses: list[float], images: Array, labels: Array, answers: Array, path: Path) -> None:
    """The loss curve, and the test images that were read wrongly with what they show and what was read."""
    import matplotlib as mpl  # here, since it takes longer to load than the network to make its first step

    mpl.use("Agg")  # pictures go to files: no window is needed
    import matplotlib.pyplot as plt

    wrong = np.flatnonzero(answers != labels)
    columns = 10
    rows = math.ceil(min(len(wrong), SHOWN) / columns)
    figure = plt.figure(figsize=(10, 4 + 1.3 * rows), layout="constrained")
    grid = figure.add_gridspec(1 + rows, columns, height_ratios=[3] + [1] * rows)
    curve = figure.add_subplot(grid[0, :])
    curve.plot(losses, linewidth=1)
    curve.set(xlabel="step", ylabel="loss")
    curve.set_title(f"{len(wrong)} of {len(labels)} test images read wrongly"
                    + (f", the first {SHOWN} below" if len(wrong) > SHOWN else "") + " (true → read)")
    for place, index in enumerate(wrong[:SHOWN]):
        cell = figure.add_subplot(grid[1 + place // columns, place % columns])
        cell.imshow(images[index, 0], cmap="gray_r")
        cell.set_title(f"{labels[index]} → {answers[index]}", fontsize=9)
        cell.axis("off")
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"picture: {path}")


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {number}")
    return number


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a network to read handwritten digits.")
    add = parser.add_argument
    add("--data", metavar="FOLDER", type=Path, help="MNIST's IDX files (default: the bundled digits)")
    add("--device", metavar="NAME", help="where to compute (default: the best that is installed)")
    add("--profile", metavar="FILE", type=Path, help="time each kernel, and write a trace for Perfetto")
    add("--epochs", metavar="N", type=positive, help="passes over the images (40, with --data 5)")
    add("--batch", metavar="N", type=positive, default=32, help="images in a step (32)")
    add("--seed", metavar="N", type=int, default=0, help="weights, order and dropout (0)")
    add("--out", metavar="FOLDER", type=Path, default=Path("runs", "digits"),
        help="where the checkpoint and the picture go (runs/digits)")
    options = parser.parse_args(arguments)
    options.epochs = options.epochs or (5 if options.data else 40)
    return options


def run(options: argparse.Namespace) -> None:
    if options.device:
        set_default_device(options.device)
    Tensor.manual_seed(options.seed)
    dataset = mnist(options.data) if options.data else digits()
    x_train, y_train, x_test, y_test = (part.numpy() for part in dataset)
    if options.batch > len(x_train):
        sys.exit(f"--batch: expected at most {len(x_train)}, the images to train on, got {options.batch}")
    print(f"{len(x_train)} images to train on, {len(x_test)} to test on, device {Device.DEFAULT}")

    model = network(x_train.shape[-1])
    begin = time.perf_counter()
    Tensor.training = True  # dropout drops, and batch norm takes the batch's own statistics
    losses = train(model, x_train, y_train, options)
    Tensor.training = False
    print(f"{options.epochs} epochs in {time.perf_counter() - begin:.1f} s, loss {losses[-1]:.4f}")

    print(f"train accuracy: {accuracy(model, x_train, y_train):.2%}")
    print(f"test accuracy: {accuracy(model, x_test, y_test):.2%}")
    options.out.mkdir(parents=True, exist_ok=True)
    check_round_trip(model, x_test, options.out / "digits.safetensors")
    draw(losses, x_test, y_test, logits(model, x_test).argmax(axis=1), options.out / "digits.png")


def main(arguments: list[str] | None = None) -> None:
    options = read_options(arguments)
    try:
        if options.profile is None:
            run(options)
            return
        with profile(options.profile) as profiled:
            run(options)
        print(profiled)
        print(f"trace: {options.profile}")
    except (UserError, OSError) as error:
        sys.exit(f"digits.py: {error}")


if __name__ == "__main__":
    main()
