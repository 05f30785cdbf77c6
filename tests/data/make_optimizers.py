"""Makes tests/data/optimizers.npz: what PyTorch does with the runs in tests/unit/nn/optimizer_cases.py.

    make test-torch    (once, for the environment)
    .venv-torch/bin/python -m tests.data.make_optimizers
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tests.unit.nn.optimizer_cases import CASES, STEPS, Case, gradients, learning_rate, start

TARGET = Path(__file__).with_name("optimizers.npz")


def trajectory(case: Case) -> list[np.ndarray]:
    """The values of all tensors after each step, flattened into one row per step."""
    tensors = [torch.tensor(array, requires_grad=True) for array in start()]
    optimizer = getattr(torch.optim, case.optimizer)(tensors, **case.in_torch)
    first = optimizer.param_groups[0]["lr"]
    rows = []
    for step in range(STEPS):
        for tensor, gradient in zip(tensors, gradients(step), strict=True):
            tensor.grad = None if gradient is None else torch.tensor(gradient)
        optimizer.param_groups[0]["lr"] = learning_rate(step, first)
        optimizer.step()
        rows.append(np.concatenate([tensor.detach().numpy().ravel() for tensor in tensors]))
    return rows


def main() -> None:
    np.savez_compressed(TARGET, **{case.name: np.stack(trajectory(case)) for case in CASES})
    print(f"{TARGET}: {len(CASES)} runs by PyTorch {torch.__version__}, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
