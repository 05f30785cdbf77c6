"""A second process runs the first step of examples/digits.py without scheduling or compiling anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIRST_STEP = """
import json, sys
sys.path.insert(0, "examples")
import digits
from pluggrad import GlobalCounters, Tensor, jit
from pluggrad.data import digits as load
from pluggrad.nn import optim

Tensor.manual_seed(0)
x, y, _, _ = (part.numpy() for part in load())
model = digits.network(x.shape[-1])
optimizer = optim.AdamW([model], lr=digits.PEAK_LR)
Tensor.training = True

@jit
def step(images, labels):
    optimizer.zero_grad()
    loss = model(images).cross_entropy(labels, label_smoothing=digits.LABEL_SMOOTHING)
    loss.backward()
    optimizer.step()
    return loss

loss = step(Tensor(x[:64]), Tensor(y[:64])).item()
print(json.dumps({"loss": loss, **GlobalCounters.snapshot()}))
"""


def test_a_second_process_compiles_nothing(fresh_cache):
    runs = []
    for _ in range(2):
        result = subprocess.run([sys.executable, "-c", FIRST_STEP], cwd=ROOT, env=dict(os.environ), text=True,
                                capture_output=True, timeout=300, check=True)
        runs.append(json.loads(result.stdout.splitlines()[-1]))
    first, second = runs
    assert first["scheduled"] > 0
    assert first["compiled"] > 0
    assert (second["scheduled"], second["compiled"]) == (0, 0)
    assert (second["kernels"], second["loss"]) == (first["kernels"], first["loss"])
    assert second["plan_disk_hits"] == first["scheduled"]
