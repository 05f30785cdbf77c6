"""Whole programs, in pluggrad and in PyTorch: what a first call costs, and how much memory steps need.

A program is one entry of PROGRAMS, and a function of that name in each library's module; called, it makes its
model and its data and returns a step. Numbers are float32.
"""
from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Final, TypeAlias

Step: TypeAlias = Callable[[], object]

# name -> what it is
PROGRAMS: Final = {
    "lenet": "training step of LeNet, batch 128, Adam",
    "resnet18": "ResNet-18, 1 image of 224x224",
    "resnet18_8": "ResNet-18, 8 images of 224x224",
    "resnet18_step": "training step of ResNet-18, 8 images of 224x224, SGD with momentum",
    "resnet18_64": "training step of ResNet-18, 64 images of 224x224, SGD with momentum",
    "gpt_block": "training step of a block of GPT-2, 4 texts of 256 tokens, Adam",
    "gpt2": "GPT-2 small, loss and gradients, 1 text of 64 tokens",
    "gpt2_step": "training step of GPT-2 small, 4 texts of 512 tokens, Adam",
    "lstm100": "LSTM of 100 steps, 32 rows of 128, loss and gradients",
    "chain": "12 elementwise ops on arrays of 16M elements, and their sum",
}
WIDTH: Final = 768  # of GPT-2 small
HEADS: Final = 12
BLOCKS: Final = 12
VOCABULARY: Final = 50257
CHANNELS: Final = (64, 128, 256, 512)  # of ResNet-18's stages, two residual blocks each
LARGE: Final = 1 << 24


def make(library: str, program: str) -> Step:
    """The step of a program in a library; importing the library is a part of it."""
    function: Callable[[], Step] = getattr(import_module(f"benchmarks.programs.{library}"), program)
    return function()
