"""Train a network to clean noisy digits: it has to learn what digits look like.

    python examples/denoising_autoencoder.py                  the digits that come with pluggrad, 8 x 8 pixels
    python examples/denoising_autoencoder.py --data FOLDER    MNIST's files, 28 x 28 pixels
    python examples/denoising_autoencoder.py --device NAME    one of: python -m pluggrad devices

P. Vincent et al., "Extracting and Composing Robust Features with Denoising Autoencoders", 2008.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm.auto import tqdm

from pictures import as_text, save
from pluggrad import Device, Tensor, jit, nn, set_default_device
from pluggrad.data import digits, mnist
from pluggrad.errors import UserError

NOISE = 0.4  # standard deviation; ink is 1 and paper 0
LEARNING_RATE = 5e-3
SHOWN = 5


def network() -> nn.Sequential:
    """Images (n, 1, side, side) to the same shape, through a quarter of the side: no room for the noise."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, stride=2, padding=1), Tensor.relu,
        nn.Conv2d(32, 64, 3, stride=2, padding=1), Tensor.relu,
        nn.Conv2d(64, 64, 3, padding=1), Tensor.relu,
        nn.ConvTranspose2d(64, 32, 2, stride=2), Tensor.relu,
        nn.ConvTranspose2d(32, 1, 2, stride=2), Tensor.sigmoid,
    )


def noisy(images: Tensor) -> Tensor:
    return (images + NOISE * Tensor.randn(*images.shape)).clamp(0, 1)


def train(model: nn.Sequential, images: Tensor, options: argparse.Namespace) -> None:
    optimizer = nn.optim.Adam([model], lr=LEARNING_RATE)

    @jit  # recorded once, with the drawing of images and noise: each repetition draws others
    def step() -> Tensor:
        clean = images[Tensor.randint(options.batch, high=len(images))]
        optimizer.zero_grad()
        loss: Tensor = model(noisy(clean)).binary_crossentropy(clean)
        loss.backward()
        optimizer.step()
        return loss

    interval = 0.1 if sys.stderr.isatty() else 5.0  # in a log file the bar is a line now and then
    with tqdm(total=options.steps, unit=" steps", mininterval=interval) as bar:
        for number in range(options.steps):
            optimizer.lr = LEARNING_RATE * (1 - number / options.steps)
            bar.set_postfix(loss=f"{step().item():.4f}", refresh=False)
            bar.update()


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a network to clean noisy digits.")
    add = parser.add_argument
    add("--data", metavar="FOLDER", type=Path, help="MNIST's IDX files (default: the bundled digits)")
    add("--device", metavar="NAME", help="where to compute (default: the best that is installed)")
    add("--steps", metavar="N", type=int, default=1500, help="batches that it learns from (1500)")
    add("--batch", metavar="N", type=int, default=64, help="images in a batch (64)")
    add("--seed", metavar="N", type=int, default=0, help="weights, batches and noise (0)")
    add("--out", metavar="FOLDER", type=Path, default=Path("runs", "denoising_autoencoder"),
        help="where the picture goes (runs/denoising_autoencoder)")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    if options.device:
        set_default_device(options.device)
    print(f"device {Device.DEFAULT}")
    Tensor.manual_seed(options.seed)
    dataset = mnist(options.data) if options.data else digits()
    model = network()
    train(model, dataset.X_train.float(), options)

    clean = dataset.X_test[:500].float()  # none of which it has seen
    with Tensor.no_grad():
        dirty = noisy(clean).realize()
        cleaned = model(dirty).realize()
    before, after = ((images - clean).square().mean().item() for images in (dirty, cleaned))
    print(f"squared error of a pixel: {before:.4f} with the noise, {after:.4f} cleaned\n")
    parts = {"with noise": dirty, "cleaned": cleaned, "as it was": clean}
    for title, images in parts.items():
        print(f"{title}:\n{as_text(images[:SHOWN, 0].numpy())}\n")
    save({title: images[:10].numpy().swapaxes(0, 1) for title, images in parts.items()},
         options.out / "denoising_autoencoder.png")


def main(arguments: list[str] | None = None) -> None:
    options = read_options(arguments)
    try:
        run(options)
    except (UserError, OSError) as error:
        sys.exit(f"denoising_autoencoder.py: {error}")


if __name__ == "__main__":
    main()
