"""The transformer learns to continue a text, writes it, and looks at no character that is still to come."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from examples import char_transformer
from pluggrad import Tensor, device

RECORD = Path(char_transformer.__file__).parent / "results" / "char_transformer.jsonl"
SMALL = ("--width", "32", "--layers", "1", "--heads", "2", "--context", "32", "--batch", "32")
HISTORY = "history: step, loss of its batch, loss on what is held out"
SENTENCE = "the quick brown fox jumps over the lazy dog. "


def entropy(text: str) -> float:
    """Nats a character for who knows how frequent each is, and nothing else."""
    shares = np.array(list(Counter(text).values())) / len(text)
    return float(-(shares * np.log(shares)).sum())


def test_it_reads_better_than_who_knows_frequencies(tmp_path, run_example):
    result = run_example(
        "char_transformer.py", *SMALL, "--steps", "300", "--length", "50", "--record", "record.jsonl"
    )
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "record.jsonl").read_text())
    losses = [held_out for *_, held_out in record[HISTORY]]
    assert len(losses) == 10
    assert losses[-1] < entropy(char_transformer.language_reference()) - 0.5
    assert f"held out: {losses[-1]:.3f} nats a character" in result.stdout
    assert "100%" in result.stderr


def test_it_writes_what_it_has_read(tmp_path, capsys):
    file = tmp_path / "text.txt"
    file.write_text(SENTENCE * 300)
    char_transformer.main(["--text", str(file), *SMALL, "--batch", "16", "--steps", "200", "--length", "90"])
    written = capsys.readouterr().out.rstrip("\n").splitlines()[-1]
    assert len(written) == 60 + 90
    assert written in SENTENCE * 5


def test_a_run_repeats_with_its_seed(tmp_path, capsys, device_name):
    file = tmp_path / "text.txt"
    file.write_text(SENTENCE * 20)
    tiny = ("--width", "8", "--layers", "1", "--heads", "2", "--context", "8", "--batch", "8")

    def output(seed: str) -> str:
        options = ["--text", str(file), *tiny, "--length", "9", "--steps", "3", "--seed", seed]
        with device(device_name):
            char_transformer.main(options)
        return capsys.readouterr().out.partition("; loss")[2]

    assert output("1") == output("1") != output("2")


def test_what_comes_later_does_not_count(device):
    model = char_transformer.Transformer(letters=10, context=6, width=8, heads=2, layers=2)
    text = np.array([[1, 2, 3, 4, 5, 6], [1, 2, 3, 9, 8, 7]], np.int32)
    first, second = model(Tensor(text)).numpy()
    np.testing.assert_allclose(first[:3], second[:3], rtol=1e-5, atol=1e-6)
    assert np.abs(first[3:] - second[3:]).max() > 1e-3


def test_the_recorded_run():
    (run,) = [json.loads(line) for line in RECORD.read_text().splitlines()]
    *_, held_out = run[HISTORY][-1]
    assert held_out < 1.6
    assert run["seconds"] < 300


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "no-such-device"], "char_transformer.py: no plugin provides device 'no-such-device'"),
        (["--text", "nowhere.txt"], "char_transformer.py: [Errno 2] No such file"),
        (["--text", "short.txt"], "--text: expected at least 20640 characters, ten batches, got 45"),
    ],
)
def test_what_it_refuses(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("short.txt").write_text(SENTENCE)
    with pytest.raises(SystemExit) as caught:
        char_transformer.main(arguments)
    assert str(caught.value).startswith(message)
