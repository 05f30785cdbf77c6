"""Tell the images of a folder apart: train a small network, draw what it confuses, save it and load it again.

    python examples/image_folder.py --data FOLDER    each class a folder: FOLDER/cat/1.jpg, FOLDER/dog/2.png
    python examples/image_folder.py                  draws circles, squares and triangles, and learns those
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from tqdm.auto import tqdm

from pluggrad import Device, Tensor, jit, nn, set_default_device
from pluggrad.data import DataLoader, ImageFolder, random_crop, random_flip, random_split
from pluggrad.errors import UserError

Array: TypeAlias = npt.NDArray[Any]
CORNERS = {"circle": 60, "square": 4, "triangle": 3}
PEAK_LR = 5e-3
GRID = 5  # images in a row of the picture


def draw_shapes(folder: Path, images_of_each: int, seed: int) -> None:
    """A folder of images for each shape, in any color, size, place and direction, on a noisy ground."""
    random = np.random.default_rng(seed)
    for name, corners in CORNERS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(images_of_each):
            image = Image.fromarray(random.integers(0, 90, (48, 48, 3), dtype=np.uint8))
            radius, turn = random.uniform(9, 18), random.uniform(0, 2 * math.pi)
            x, y = random.uniform(radius, 48 - radius, 2)
            angles = [turn + 2 * math.pi * corner / corners for corner in range(corners)]
            outline = [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]
            ImageDraw.Draw(image).polygon(outline, fill=tuple(random.integers(110, 256, 3).tolist()))
            image.save(folder / name / f"{number:03}.png")


def network(classes: int) -> nn.Sequential:
    """Images (n, 3, height, width) of any size to logits (n, classes)."""
    layers: list[Callable[[Any], Any]] = []
    for inputs, outputs in [(3, 16), (16, 32), (32, 64)]:
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), Tensor.relu,
                   nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


def train(model: nn.Sequential, loader: DataLoader, epochs: int) -> None:
    optimizer = nn.optim.AdamW([model], lr=PEAK_LR)
    schedule = nn.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * len(loader))

    @jit  # the first call records what is computed, the others repeat it without Python in between
    def step(images: Tensor, labels: Tensor) -> Tensor:
        optimizer.zero_grad()
        changed = random_flip(random_crop(images, padding=2))  # each image moved, half of them mirrored
        loss: Tensor = model(changed).cross_entropy(labels)
        loss.backward()
        optimizer.step()
        return loss

    Tensor.training = True
    with tqdm(total=epochs * len(loader), unit=" batches", disable=None) as bar:
        for _ in range(epochs):
            for images, labels in loader:
                loss = step(images, labels)
                schedule.step()
                bar.update()
            bar.set_postfix(loss=f"{loss.item():.4f}")
    Tensor.training = False


def logits(model: nn.Sequential, loader: DataLoader) -> Array:
    """The network's output (n, classes) for every image of the loader."""
    with Tensor.no_grad():
        return np.concatenate([model(images).numpy() for images, _ in loader])


def check_round_trip(model: nn.Sequential, loader: DataLoader, path: Path) -> None:
    """Save the model, load it into a fresh one, and compare their answers."""
    nn.state.safe_save(nn.state.get_state_dict(model), path)
    fresh = network(model[-1].weight.shape[0])
    nn.state.load_state_dict(fresh, nn.state.safe_load(path))
    if not np.array_equal(logits(fresh, loader), logits(model, loader)):
        sys.exit(f"{path}: the loaded network gives other answers than the one that was saved")
    print(f"model: {path}, loaded into a fresh network: same answers")


def draw(classes: list[str], images: Array, truth: Array, answers: Array, path: Path) -> None:
    """How often each class was taken for each, and some images with what they were taken for."""
    import matplotlib as mpl

    mpl.use("Agg")  # pictures go to files: no window is needed
    import matplotlib.pyplot as plt

    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (truth, answers), 1)
    figure = plt.figure(figsize=(12, 5), layout="constrained")
    grid = figure.add_gridspec(1, 2)
    left, right = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    axes = left.subplots()
    axes.imshow(counts, cmap="Blues")
    axes.set(xticks=range(len(classes)), yticks=range(len(classes)), xlabel="taken for", ylabel="class")
    axes.set_xticklabels(classes, rotation=45)
    axes.set_yticklabels(classes)
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if count > counts.max() / 2 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=color)
    shown = np.argsort(answers == truth, kind="stable")[:GRID * GRID]  # those taken for another class first
    for cell, index in zip(right.subplots(GRID, GRID, squeeze=False).flat, shown):
        cell.imshow(images[index].transpose(1, 2, 0))
        right_answer = answers[index] == truth[index]
        cell.set_title(classes[answers[index]], fontsize=8, color="green" if right_answer else "red")
    for cell in right.axes:
        cell.axis("off")
    figure.savefig(path, dpi=100)
    plt.close(figure)
    print(f"picture: {path}")


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a network to tell the images of a folder apart.")
    add = parser.add_argument
    add("--data", metavar="FOLDER", type=Path, help="folders of images, one for each class (default: drawn)")
    add("--device", metavar="NAME", help="where to compute (default: the best that is installed)")
    add("--epochs", metavar="N", type=int, default=30, help="passes over the images (30)")
    add("--batch", metavar="N", type=int, default=32, help="images in a step (32)")
    add("--size", metavar="N", type=int, default=32, help="images are scaled and cut to N x N pixels (32)")
    add("--images", metavar="N", type=int, default=150, help="how many to draw of each shape (150)")
    add("--workers", metavar="N", type=int, default=2, help="processes that read images ahead (2)")
    add("--seed", metavar="N", type=int, default=0, help="weights, order, parts and shapes (0)")
    add("--out", metavar="FOLDER", type=Path, default=Path("runs", "image_folder"),
        help="where shapes, model and picture go (runs/image_folder)")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    if options.device:
        set_default_device(options.device)
    Tensor.manual_seed(options.seed)
    folder = options.data or options.out / f"shapes-{options.images}-{options.seed}"
    if options.data is None:
        draw_shapes(folder, options.images, options.seed)
    dataset = ImageFolder(folder, size=options.size)
    train_part, test_part = random_split(dataset, [0.8, 0.2], seed=options.seed)
    print(f"{', '.join(dataset.classes)}: {len(train_part)} images to train on, {len(test_part)} to test on, "
          f"device {Device.DEFAULT}")

    model = network(len(dataset.classes))
    # the same small number of images in each step; the rest waits for the next epoch's order
    batch = min(options.batch, len(train_part))
    loader = DataLoader(train_part, batch, shuffle=True, num_workers=options.workers, drop_last=True)
    train(model, loader, options.epochs)

    test = DataLoader(test_part, options.batch)
    images, labels = (np.concatenate([part.numpy() for part in parts]) for parts in zip(*test))
    answers = logits(model, test).argmax(axis=1)
    print(f"test accuracy: {(answers == labels).mean():.2%}")
    options.out.mkdir(parents=True, exist_ok=True)
    check_round_trip(model, test, options.out / "model.safetensors")
    draw(dataset.classes, images, labels, answers, options.out / "confusion.png")


def main(arguments: list[str] | None = None) -> None:
    try:
        run(read_options(arguments))
    except (UserError, OSError) as error:
        sys.exit(f"image_folder.py: {error}")


if __name__ == "__main__":  # the processes that read images import this file, and must not train as well
    main()
