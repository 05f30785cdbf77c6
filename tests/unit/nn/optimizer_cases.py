"""Optimizer runs that are compared with PyTorch's: options, starting values, gradients and learning rates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

STEPS = 12


@dataclass(frozen=True)
class Case:
    """One optimizer with options, by the names in both libraries."""

    name: str
    optimizer: str
    options: dict[str, Any] = field(default_factory=dict)
    torch_options: dict[str, Any] | None = None

    @property
    def in_torch(self) -> dict[str, Any]:
        return self.options if self.torch_options is None else self.torch_options


CASES = [
    Case("sgd", "SGD", {"lr": 0.1}),
    Case("sgd-decay", "SGD", {"lr": 0.1, "weight_decay": 0.03}),
    Case("sgd-momentum", "SGD", {"lr": 0.05, "momentum": 0.9}),
    Case("sgd-momentum-decay", "SGD", {"lr": 0.05, "momentum": 0.8, "weight_decay": 0.1}),
    Case("sgd-nesterov", "SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    Case("adam", "Adam", {"lr": 0.01}),
    Case(
        "adam-options",
        "Adam",
        {"lr": 0.02, "b1": 0.8, "b2": 0.95, "eps": 1e-4, "weight_decay": 0.1},
        {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1},
    ),
    Case("adam-no-averages", "Adam", {"b1": 0.0, "b2": 0.0}, {"betas": (0.0, 0.0)}),
    Case("adamw", "AdamW", {"lr": 0.01}),
    Case("adamw-decay", "AdamW", {"lr": 0.05, "weight_decay": 0.3}),
    Case("adamw-no-decay", "AdamW", {"weight_decay": 0.0}),
    Case("sgd-dampening", "SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    Case("sgd-maximize", "SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1, "maximize": True}),
    Case("adam-amsgrad", "Adam", {"lr": 0.02, "betas": (0.7, 0.9), "amsgrad": True}),
    Case("adamw-maximize", "AdamW", {"lr": 0.02, "amsgrad": True, "maximize": True}),
    Case("rmsprop", "RMSprop", {"lr": 0.01}),
    Case(
        "rmsprop-options",
        "RMSprop",
        {"lr": 0.02, "alpha": 0.9, "momentum": 0.8, "centered": True, "weight_decay": 0.1, "eps": 1e-3},
    ),
    Case("adagrad", "Adagrad", {"lr": 0.1}),
    Case(
        "adagrad-options",
        "Adagrad",
        {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5},
    ),
    Case("adadelta", "Adadelta"),
    Case("adadelta-options", "Adadelta", {"lr": 0.5, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.1}),
]


def start() -> list[np.ndarray]:
    """Three tensors: a matrix, a vector, and one that is zero."""
    generator = np.random.default_rng(7)
    return [
        generator.standard_normal((3, 4)).astype(np.float32),
        generator.standard_normal(5).astype(np.float32),
        np.zeros(2, np.float32),
    ]


def gradients(step: int) -> list[np.ndarray | None]:
    """What each tensor gets at `step`; the vector misses some, the zero tensor gets zeros at first."""
    generator = np.random.default_rng([11, step])
    matrix = generator.standard_normal((3, 4)).astype(np.float32)
    vector = generator.standard_normal(5).astype(np.float32) * 1e-3
    small = np.zeros(2, np.float32) if step < 2 else np.array([1e-6, 10], np.float32)
    return [matrix, None if step in (0, 1, 5) else vector, small]


def learning_rate(step: int, first: float) -> float:
    """Halved after half of the steps."""
    return first if step < STEPS // 2 else first / 2
