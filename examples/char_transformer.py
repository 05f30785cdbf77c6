"""Train a transformer to continue a text, one character after another, and let it write.

    python examples/char_transformer.py                  Python's language reference, as help() shows it
    python examples/char_transformer.py --text FILE      any text; a few hundred thousand characters are good
    python examples/char_transformer.py --device NAME    one of: python -m pluggrad devices

A tenth of the text is held out: the loss there says how well the network continues what it has not read.
A. Vaswani et al., "Attention Is All You Need", https://arxiv.org/abs/1706.03762.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from tqdm.auto import tqdm

from pluggrad import Device, Tensor, __version__, jit, nn, set_default_device
from pluggrad.errors import UserError
from pluggrad.nn.optim.lr_scheduler import OneCycleLR

Array: TypeAlias = npt.NDArray[Any]
PEAK_LR = 3e-3
WEIGHT_DECAY = 0.1
LARGEST_NORM = 1.0  # of all gradients together: a step on an unlucky batch is no longer than others


class Block:
    """Attention, where each character looks at those before it, then a small network for each by itself."""

    def __init__(self, width: int, heads: int) -> None:
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.look = nn.Linear(width, 3 * width, bias=False)  # what it asks for, what it offers, what it says
        self.gather = nn.Linear(width, width)
        self.norm_think = nn.LayerNorm(width)
        self.think = nn.Sequential(nn.Linear(width, 4 * width), Tensor.gelu, nn.Linear(4 * width, width))

    def attention(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.look(x).reshape(batch, length, 3, self.heads, width // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)  # each (batch, heads, length, width / heads)
        found = queries.scaled_dot_product_attention(keys, values, is_causal=True)
        return self.gather(found.transpose(1, 2).reshape(batch, length, width))

    def __call__(self, x: Tensor) -> Tensor:
        """Shape (batch, length, width) to the same: what is found and thought is added to what was there."""
        x = x + self.attention(self.norm_attention(x))
        x = x + self.think(self.norm_think(x))
        return x


class Transformer:
    """Characters (n, length) to logits (n, length, letters): how much speaks for each letter to come next."""

    def __init__(self, letters: int, context: int, width: int, heads: int, layers: int) -> None:
        self.letters = nn.Embedding(letters, width)
        self.places = nn.Embedding(context, width)
        self.blocks = [Block(width, heads) for _ in range(layers)]
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, letters)

    def __call__(self, x: Tensor) -> Tensor:
        hidden = self.letters(x) + self.places.weight
        return self.output(self.norm(hidden.sequential(self.blocks)))

    def loss(self, windows: Tensor) -> Tensor:
        """Of windows (n, context + 1): nats for each character, given those before it."""
        logits = self(windows[:, :-1])
        return logits.flatten(0, 1).cross_entropy(windows[:, 1:].flatten())


def language_reference() -> str:
    """A text that comes with Python: what help("if") and its kin show. Topics share paragraphs: each once."""
    return "\n\n".join(dict.fromkeys(part for text in topics.values() for part in text.split("\n\n")))


def train(model: Transformer, text: Array, held_out: Array, options: argparse.Namespace) -> list[list[float]]:
    """Fit the model by AdamW. Ten rows of: step, loss of its batch, loss on what is held out."""
    optimizer = nn.optim.AdamW([model], lr=PEAK_LR, weight_decay=WEIGHT_DECAY)
    # a tenth of the steps up to the peak, since the first gradients are large, and down along a cosine
    schedule = OneCycleLR(optimizer, PEAK_LR, options.steps + 1, pct_start=0.1, cycle_momentum=False)

    @jit  # the first call records what is computed, the others repeat it without Python in between
    def step(windows: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = model.loss(windows)
        loss.backward()
        nn.clip_grad_norm_(optimizer.params, LARGEST_NORM)
        optimizer.step()
        return loss

    @jit
    def loss_of(windows: Tensor) -> Tensor:
        with Tensor.no_grad():
            return model.loss(windows)

    random, history = np.random.default_rng(options.seed), list[list[float]]()
    size = options.context + 1
    everywhere = sliding_window_view(text, size)  # a window at each character, no copy
    unread = held_out[: len(held_out) // (options.batch * size) * options.batch * size]
    parts = [Tensor(part) for part in unread.reshape(-1, options.batch, size)]
    interval = 0.1 if sys.stderr.isatty() else 5.0  # in a log file the bar is a line now and then
    with tqdm(total=options.steps, unit=" steps", mininterval=interval) as bar:
        for number in range(1, options.steps + 1):
            loss = step(Tensor(everywhere[random.integers(len(everywhere), size=options.batch)])).item()
            schedule.step()
            if number * 10 // options.steps > (number - 1) * 10 // options.steps:
                history.append([number, loss, sum(loss_of(part).item() for part in parts) / len(parts)])
                bar.set_postfix(loss=f"{loss:.3f}", held_out=f"{history[-1][-1]:.3f}", refresh=False)
            bar.update()
    return history


def write(model: Transformer, begin: Array, alphabet: str, options: argparse.Namespace) -> None:
    """Print `begin` and how the model continues it, each character drawn as likely as the model finds it."""
    random, written = np.random.default_rng(options.seed), list(begin)

    @jit
    def logits_of(window: Tensor) -> Tensor:
        with Tensor.no_grad():
            return model(window)

    print("".join(alphabet[number] for number in begin), end="")
    for _ in range(options.length):
        seen = written[-options.context :]
        # always as wide, for one capture: what follows the last character is not looked at
        window = np.pad(seen, (0, options.context - len(seen)))
        logits = logits_of(Tensor(window[None])).numpy()[0, len(seen) - 1] / options.temperature
        odds = np.exp(logits - logits.max())
        written.append(random.choice(len(alphabet), p=odds / odds.sum()))
        print(alphabet[written[-1]], end="", flush=True)
    print()


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a transformer to write, one character after another.")
    add = parser.add_argument
    add("--text", metavar="FILE", type=Path, help="what it reads (default: Python's language reference)")
    add("--device", metavar="NAME", help="where to compute (default: the best that is installed)")
    add("--steps", metavar="N", type=int, default=1500, help="batches that it learns from (1500)")
    add("--batch", metavar="N", type=int, default=16, help="windows of text in a batch (16)")
    add("--context", metavar="N", type=int, default=128, help="characters that it looks back at (128)")
    add("--width", metavar="N", type=int, default=128, help="numbers that stand for a character (128)")
    add("--heads", metavar="N", type=int, default=4, help="things to look for at once; divides --width (4)")
    add("--layers", metavar="N", type=int, default=4, help="rounds of looking and thinking (4)")
    add("--length", metavar="N", type=int, default=800, help="characters to write (800)")
    add("--temperature", metavar="X", type=float, default=0.7, help="below 1: surer, above: bolder (0.7)")
    add("--seed", metavar="N", type=int, default=0, help="weights, batches and what is written (0)")
    add("--record", metavar="FILE", type=Path, help="append what came out, as a line of JSON")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    if options.device:
        set_default_device(options.device)
    Tensor.manual_seed(options.seed)
    text = options.text.read_text(encoding="utf-8") if options.text else language_reference()
    least = 10 * options.batch * (options.context + 1)
    if len(text) < least:
        sys.exit(f"--text: expected at least {least} characters, ten batches, got {len(text)}")
    alphabet = "".join(sorted(set(text)))
    numbers = np.searchsorted(list(alphabet), list(text)).astype(np.int32)
    read, held_out = np.split(numbers, [len(text) - len(text) // 10])
    model = Transformer(len(alphabet), options.context, options.width, options.heads, options.layers)
    size = sum(tensor.numel() for tensor in nn.state.get_parameters(model))
    print(f"{len(read)} characters to read, {len(held_out)} held out, {len(alphabet)} different; "
          f"{size} numbers to learn, device {Device.DEFAULT}")

    begin = time.perf_counter()
    history = train(model, read, held_out, options)
    seconds = time.perf_counter() - begin
    print(f"{options.steps} steps in {seconds:.1f} s; "
          f"loss on what is held out: {history[-1][-1]:.3f} nats a character\n")
    write(model, held_out[:60], alphabet, options)
    if options.record:
        with options.record.open("a") as file:
            settings = {name: value for name, value in vars(options).items() if type(value) in (int, float)}
            file.write(json.dumps({
                "version": __version__, "device": str(Device.DEFAULT), "cores": os.cpu_count(), **settings,
                "text": str(options.text or f"pydoc_data.topics of Python {platform.python_version()}"),
                "characters": len(text), "parameters": size, "seconds": round(seconds, 1),
                "history: step, loss of its batch, loss on what is held out": history,
            }) + "\n")


def main(arguments: list[str] | None = None) -> None:
    options = read_options(arguments)
    try:
        run(options)
    except (UserError, OSError) as error:
        sys.exit(f"char_transformer.py: {error}")


if __name__ == "__main__":
    main()
