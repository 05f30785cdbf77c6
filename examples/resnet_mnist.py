"""Train a small residual network on MNIST: 99 % of test images read rightly, in a minute or so.

    python examples/resnet_mnist.py --data FOLDER    MNIST's files: all four, or one pair, which is split
    python examples/resnet_mnist.py                  downloads them (11 MB) on its first run
    python examples/resnet_mnist.py --seeds 0 1 2    several runs, and their mean

K. He et al., "Deep Residual Learning for Image Recognition", https://arxiv.org/abs/1512.03385.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from pluggrad import Device, Tensor, jit, nn, set_default_device
from pluggrad.data import DataLoader, Split, TensorDataset, mnist, random_crop
from pluggrad.errors import UserError

PEAK_LR = 0.01
LABEL_SMOOTHING = 0.1  # targets are 0.91 for the right digit and 0.01 for the others: surer is no better
SHADES = " .:-=+*#%@"  # from paper to ink


class Block(nn.Module):
    """Two convolutions whose result is added to their input: they learn what is to change about it."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        # where the shape changes, the input has to take the new one before it can be added
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(x)).relu()
        y = self.norm2(self.conv2(y))
        return (y + (x if self.shortcut is None else self.shortcut(x))).relu()


def network() -> nn.Sequential:
    """Images (n, 1, 28, 28) to logits (n, 10): how much speaks for each digit."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        Tensor.relu,
        nn.MaxPool2d(2),
        Block(32, 32),
        Block(32, 64, stride=2),
        Block(64, 64),
        lambda x: x.mean((2, 3)),  # of each channel, wherever in the image it answers
        nn.Linear(64, 10),
    )


def train(model: nn.Sequential, dataset: TensorDataset, options: argparse.Namespace, seed: int) -> None:
    loader = DataLoader(dataset, options.batch, shuffle=True, seed=seed, drop_last=True)
    optimizer = nn.optim.AdamW([model], lr=PEAK_LR, weight_decay=0.05)
    # the learning rate goes up to its peak and then down to nothing
    schedule = nn.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_LR, epochs=options.epochs, steps_per_epoch=len(loader), cycle_momentum=False
    )

    @jit  # the first call records what is computed, the others repeat it without Python in between
    def step(images: Tensor, labels: Tensor) -> Tensor:
        optimizer.zero_grad()
        moved = random_crop(images, padding=2)  # each image by up to two pixels, anew in every epoch
        loss: Tensor = model(moved).cross_entropy(labels, label_smoothing=LABEL_SMOOTHING)
        loss.backward()
        optimizer.step()
        return loss

    total = options.epochs * len(loader) * options.batch
    with tqdm(total=total, desc=f"seed {seed}", unit=" images", unit_scale=True, disable=None) as bar:
        for _ in range(options.epochs):
            for images, labels in loader:
                loss = step(images, labels)
                bar.update(options.batch)
                schedule.step()
            bar.set_postfix(loss=f"{loss.item():.4f}")


def answers(model: nn.Sequential, images: Tensor) -> Tensor:
    """The digit that the network sees in each image (n,)."""
    with Tensor.no_grad():
        parts: list[Tensor] = [model(batch).argmax(1).realize() for batch in DataLoader(images, 500)]
    return Tensor.cat(*parts)


def picture(image: Tensor) -> list[str]:
    """One image (1, 28, 28) as text; every second row, since characters are twice as high as wide."""
    shades = (image[0, ::2] * (len(SHADES) - 1)).round().int().tolist()
    return ["".join(SHADES[shade] for shade in row) for row in shades]


def show_misread(images: Tensor, truth: list[int], read: list[int], count: int = 4) -> None:
    """The first images that were read wrongly, side by side."""
    wrong = [index for index, digit in enumerate(truth) if read[index] != digit][:count]
    titles = [f"a {truth[index]}, read as {read[index]}".ljust(28) for index in wrong]
    columns = [[title, *picture(images[index])] for title, index in zip(titles, wrong)]
    print("\n".join("  ".join(line) for line in zip(*columns)))


def run(dataset: Split, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train once; what came of it, as a record."""
    Tensor.manual_seed(seed)
    model = network()
    begin = time.perf_counter()
    Tensor.training = True  # batch norm takes the batch's own statistics
    train(model, TensorDataset(dataset.X_train, dataset.Y_train), options, seed)
    Tensor.training = False
    seconds = time.perf_counter() - begin
    truth, read = dataset.Y_test.tolist(), answers(model, dataset.X_test).tolist()
    accuracy = sum(a == b for a, b in zip(truth, read)) / len(truth)
    print(f"seed {seed}: test accuracy: {accuracy:.2%}, trained in {seconds:.1f} s")
    show_misread(dataset.X_test, truth, read)
    return {"seed": seed, "accuracy": round(accuracy, 4), "seconds": round(seconds, 1),
            "epochs": options.epochs, "batch": options.batch, "device": Device.DEFAULT,
            "train_images": len(dataset.X_train), "test_images": len(truth)}


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a residual network to read handwritten digits.")
    add = parser.add_argument
    add("--data", metavar="FOLDER", type=Path, help="MNIST's IDX files (default: downloaded)")
    add("--device", metavar="NAME", help="where to compute (default: the best that is installed)")
    add("--epochs", metavar="N", type=int, default=8, help="passes over the images (8)")
    add("--batch", metavar="N", type=int, default=128, help="images in a step (128)")
    add("--seeds", metavar="N", type=int, nargs="+", default=[0], help="a run for each of these (0)")
    add("--record", metavar="FILE", type=Path, help="append what came of each run, as a line of JSON")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = read_options(arguments)
    try:
        if options.device:
            set_default_device(options.device)
        dataset = mnist(options.data)
    except (UserError, OSError) as error:
        sys.exit(f"resnet_mnist.py: {error}")
    train_images, test_images = len(dataset.X_train), len(dataset.X_test)
    print(f"{train_images} images to train on, {test_images} to test on, device {Device.DEFAULT}")
    runs = [run(dataset, options, seed) for seed in options.seeds]
    print(f"mean test accuracy: {statistics.mean(record['accuracy'] for record in runs):.2%}")
    if options.record:
        with options.record.open("a") as file:
            file.writelines(json.dumps(record) + "\n" for record in runs)


if __name__ == "__main__":
    main()
