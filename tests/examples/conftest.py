"""Running an example as its user does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pluggrad import Device

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run_example(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run_example("xor.py", "--device", "ref")`, in a folder of its own."""

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(EXAMPLES / name), *arguments]
        environment = os.environ | {"MPLCONFIGDIR": str(tmp_path / "matplotlib")}
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
        )

    return run


@pytest.fixture
def compiled() -> None:
    """The default device compiles its kernels."""
    if Device[Device.DEFAULT].capabilities.interprets_kernels:
        pytest.skip("an interpreter takes half an hour for a whole training")
