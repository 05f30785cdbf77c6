"""`python -m pluggrad tune`: a script runs, its kernels are searched for, what was found is told and kept."""
from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pluggrad import config
from pluggrad.cli import tune
from pluggrad.tune.search import Found


def run(*arguments, **variables):
    command = [sys.executable, "-m", "pluggrad", "tune", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | variables)


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text("import sys; from pluggrad import Tensor\n"
                    "print(sys.argv[1:], (Tensor([1.0, 2.0]) + 3).tolist())\n")
    return path


def test_a_script_is_run_and_its_kernels_counted(script, fresh_cache, device_name):
    first, second = (run("--device", device_name, script, "a", "--b") for _ in range(2))
    assert first.stdout == second.stdout == "['a', '--b'] [4.0, 5.0]\n"
    assert first.stderr.splitlines()[-1].startswith("kernels searched for: ")
    assert second.stderr == "kernels searched for: 0, faster than before: 0\n"


def test_what_became_faster_is_told(monkeypatch):
    found = [("sum_8", Found((("cores", 2), ("flops_per_core", 2.5e10)), 1.25, 9)),
             ("exp_8", Found((), 1.0, 4))]
    place = SimpleNamespace(id="cpu", tuning=SimpleNamespace(found=found))
    monkeypatch.setattr(tune, "sessions", lambda: [place])
    assert tune.found_lines() == ["cpu  sum_8  1.25x, as for cores 2, flops_per_core 2.5e+10",
                                  "kernels searched for: 2, faster than before: 1"]


def test_without_a_cache_nothing_could_be_kept(script):
    done = run(script, **{config.CACHE.variable: "0"})
    assert done.returncode == 2
    assert "what is found would be lost: PLUGGRAD_CACHE=0" in done.stderr
