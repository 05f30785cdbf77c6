"""Train a network that draws digits: it maps them to points of a plane, and every point back to a digit.

    python examples/variational_autoencoder.py                 the digits that come with it, 8 x 8 pixels
    python examples/variational_autoencoder.py --data FOLDER   MNIST's files, 28 x 28 pixels
    python examples/variational_autoencoder.py --device NAME   one of: python -m pluggrad devices

D. P. Kingma and M. Welling, "Auto-Encoding Variational Bayes", https://arxiv.org/abs/1312.6114.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import NormalDist

import numpy as np
from tqdm.auto import tqdm

from pictures import as_text, save
from pluggrad import Device, Tensor, jit, nn, set_default_device
from pluggrad.data import digits, mnist
from pluggrad.errors import UserError

LATENT = 2  # a plane, so that all of it can be shown
LEARNING_RATE = 2e-3
GRID = 12  # rows and columns of the map that is drawn
SHOWN = 5  # in a row of the terminal


class Autoencoder:
    """Images (n, pixels) to where they may lie in the plane, and points (n, LATENT) to images."""

    def __init__(self, pixels: int, width: int = 256) -> None:
        self.encoder = nn.Sequential(
            nn.Linear(pixels, width), Tensor.relu,
            nn.Linear(width, width), Tensor.relu,
            nn.Linear(width, 2 * LATENT),
        )
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, width), Tensor.relu,
            nn.Linear(width, width), Tensor.relu,
            nn.Linear(width, pixels),
        )

    def loss(self, images: Tensor) -> Tensor:
        """Nats to describe an image, at most: its point, as precisely as needed, and what it leaves open."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        # a random point, written so that gradients reach its mean and variance
        points = mean + (log_variance / 2).exp() * Tensor.randn(*mean.shape)
        left_open = self.decoder(points).binary_crossentropy_logits(images, reduction="sum")
        precision = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        total: Tensor = left_open + precision
        return total / len(images)

    def draw(self, points: Tensor) -> Tensor:
        drawn: Tensor = self.decoder(points).sigmoid()
        return drawn


def train(model: Autoencoder, images: Tensor, options: argparse.Namespace) -> None:
    optimizer = nn.optim.Adam([model], lr=LEARNING_RATE)

    @jit  # recorded once, with the drawing of images and points: each repetition draws others
    def step() -> Tensor:
        optimizer.zero_grad()
        loss = model.loss(images[Tensor.randint(options.batch, high=len(images))])
        loss.backward()
        optimizer.step()
        return loss

    interval = 0.1 if sys.stderr.isatty() else 5.0  # in a log file the bar is a line now and then
    with tqdm(total=options.steps, unit=" steps", mininterval=interval) as bar:
        for number in range(options.steps):
            optimizer.lr = LEARNING_RATE * (1 - number / options.steps)
            bar.set_postfix(loss=f"{step().item():.2f}", refresh=False)
            bar.update()


def plane() -> Tensor:
    """Points (GRID * GRID, LATENT) that cut the plane into parts in each of which as many digits lie."""
    ticks = [NormalDist().inv_cdf((number + 0.5) / GRID) for number in range(GRID)]
    return Tensor([[x, -y] for y in ticks for x in ticks])


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a network that draws digits.")
    add = parser.add_argument
    add("--data", metavar="FOLDER", type=Path, help="MNIST's IDX files (default: the bundled digits)")
    add("--device", metavar="NAME", help="where to compute (default: the best that is installed)")
    add("--steps", metavar="N", type=int, default=5000, help="batches that it learns from (5000)")
    add("--batch", metavar="N", type=int, default=64, help="images in a batch (64)")
    add("--seed", metavar="N", type=int, default=0, help="weights, batches and what is drawn (0)")
    add("--out", metavar="FOLDER", type=Path, default=Path("runs", "variational_autoencoder"),
        help="where the picture goes (runs/variational_autoencoder)")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    if options.device:
        set_default_device(options.device)
    print(f"device {Device.DEFAULT}")
    Tensor.manual_seed(options.seed)
    dataset = mnist(options.data) if options.data else digits()
    side = dataset.X_train.shape[-1]
    model = Autoencoder(side * side)
    train(model, dataset.X_train.float().flatten(1), options)

    with Tensor.no_grad():
        loss = model.loss(dataset.X_test[:500].float().flatten(1)).item()  # none of which it has seen
        samples = model.draw(Tensor.randn(SHOWN * 3, LATENT)).numpy().reshape(3, SHOWN, side, side)
        atlas = model.draw(plane()).numpy().reshape(GRID, GRID, side, side)
    print(f"test images: {loss:.2f} nats each\n\ndrawn at random points of the plane:")
    for row in samples:
        print(f"{as_text(row)}\n")
    save({"the plane": atlas, "random points": np.concatenate(list(samples))[None]},
         options.out / "variational_autoencoder.png")


def main(arguments: list[str] | None = None) -> None:
    options = read_options(arguments)
    try:
        run(options)
    except (UserError, OSError) as error:
        sys.exit(f"variational_autoencoder.py: {error}")


if __name__ == "__main__":
    main()
