"""`python -m pluggrad explain`: every stage is there, short by default, verified on the way."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from pluggrad import cli
from pluggrad.cli import stages
from pluggrad.device.registry import REGISTRY
from pluggrad.errors import DeviceUnavailable, VerifyError
from pluggrad.kernel.kernel import Axis
from pluggrad.tune import Phase, Tuned

SOFTMAX = "(Tensor.rand(64,64) @ Tensor.rand(64,64)).relu().softmax(1)"
STAGES = ["graph", "schedule", "kernel", "tune", "plan", "lower", "render", "runtime"]


def explain(capsys, *arguments):
    assert cli.main(["explain", *arguments]) == 0
    return capsys.readouterr().out


def headings(text):
    return re.findall(r"^=== (\w+)", text, re.MULTILINE)


def test_every_stage_is_headed_within_120_lines(capsys, device_name):
    text = explain(capsys, SOFTMAX, "--device", device_name)
    assert headings(text) == STAGES
    assert len(text.splitlines()) <= 120
    assert "=== runtime: 4 launches in 3 waves" in text  # two random operands, the product, the softmax


def test_the_text_is_the_same_everywhere(capsys, golden):
    text = explain(capsys, SOFTMAX, "--device", "ref")
    golden(text.partition("\n=== runtime")[0], stage="explain")


@pytest.mark.parametrize("stage", STAGES)
def test_one_stage_alone(capsys, stage):
    text = explain(capsys, "Tensor([1.0, 2.0]) + 1", "--stage", stage)
    assert headings(text) == [stage]
    assert text.startswith("=== ")


def test_full_shortens_nothing(capsys):
    short, full = explain(capsys, SOFTMAX), explain(capsys, SOFTMAX, "--full")
    assert "more lines, --full shows them" in short
    assert "more lines" not in full
    assert len(full.splitlines()) > 3 * len(short.splitlines())


def test_grad_adds_the_gradient_of_the_sum_in_each_leaf(capsys):
    text = explain(capsys, "Tensor([1.0, 2.0]) * Tensor([3.0, 4.0])", "--grad")
    assert headings(text) == ["graph", "autograd", *STAGES[1:]]
    assert "=== autograd: 2 gradients" in text
    assert "root 2 is" in text  # the sum and both gradients


def test_time_lists_every_stage_and_pass(capsys, device_name):
    text = explain(capsys, "Tensor([1.0]).exp() + 1", "--time", "--stage", "plan", "--device", device_name)
    timed = re.findall(r"^(\w+) +\d+\.\d{3} ms", text, re.MULTILINE)
    before, after = ["trace", "normalize", *STAGES[1:5]], ["render", "compile", "load", "run"]
    passes = ["safe_integers", "widen", "decompose", "simplify", "linearize"]
    assert timed == before + ([] if device_name == "ref" else passes) + after


def test_several_results_are_explained_together(capsys):
    text = explain(capsys, "[Tensor([1.0, 2.0]) + 1, {'a': Tensor([3.0, 4.0]) * 2}]", "--stage", "plan")
    assert "root 1 is" in text


@pytest.mark.device("cpu")
def test_a_transfer_is_made_before_the_plan(capsys):
    text = explain(capsys, "(Tensor([1.0], device='cpu') * 2).to('ref') + 1", "--stage", "plan")
    assert "launch add(output 0, input 0)" in text


def test_what_the_host_computes_comes_before_the_plan(capsys):
    text = explain(capsys, "(Tensor.eye(3) * 2).inv() + 1")
    assert "extern[inv() result 0]" in text
    assert "before, in no kernel: extern[inv() result 0](float32[3,3]): float32[3,3]" in text


def test_nothing_to_run_is_explained_too(capsys):
    assert "=== runtime: 0 launches" in explain(capsys, "Tensor.zeros(0, 3)", "--time")


def test_machine_code_is_shown_where_it_is_asked_for(capsys):
    text = explain(capsys, "Tensor([1.0, 2.0]) + 1", "--asm", "--device", "ref")
    assert headings(text) == [*STAGES[:-1], "asm", "runtime"]
    assert "=== asm: 1 listing" in text


@pytest.mark.device("cpu")
def test_a_target_need_not_be_here_and_nothing_is_run(capsys):
    on = ["Tensor.rand(64, 64).exp()", "--device", "cpu", "--full", "--target"]
    text = explain(capsys, *on, "neon", "--asm")
    assert headings(text) == [*STAGES[:-1], "asm"]
    assert "\nfor cpu neon: " in text
    assert "32 vector registers of 16 bytes" in text
    assert "fmla\tv" in text  # of that instruction set, whatever this machine has
    assert "zmm" in explain(capsys, *on, "avx512", "--stage", "asm")


@pytest.mark.device("cpu")
def test_who_asks_for_a_device_that_is_not_here_is_told_of_targets(capsys, monkeypatch):
    def unavailable(name):
        raise DeviceUnavailable("there is no such processor", hint="buy one")

    monkeypatch.setattr(REGISTRY, "resolve", unavailable)
    said = {}
    for name in ("cpu", "ref"):
        assert cli.main(["explain", "Tensor([1.0])", "--device", name]) == 2
        said[name] = capsys.readouterr().err
    assert "or: --target NAME, which shows code without it, for avx512, avx2, sse2, neon" in said["cpu"]
    assert said["ref"] == "error: there is no such processor\n"


@pytest.mark.device("cpu")
def test_times_of_a_target_end_with_its_source(capsys):
    text = explain(capsys, "Tensor([1.0]).exp()", "--device", "cpu", "--target", "sse2", "--time")
    timed = re.findall(r"^(\w+) +\d+\.\d{3} ms", text, re.MULTILINE)
    assert timed[-1] == "render"


@pytest.mark.device("cpu")
@pytest.mark.parametrize(("arguments", "message"), [
    (["--target", "i860"], "device cpu: expected one of avx512, avx2, sse2, neon, got 'i860'"),
    (["--target", "sse2", "--stage", "runtime"], "expected a device that runs the plan, got for cpu sse2"),
])
def test_what_is_wrong_with_a_target_is_said(capsys, arguments, message):
    assert cli.main(["explain", "Tensor([1.0])", "--device", "cpu", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "message"), [
    (["(1"], "error: (1: SyntaxError"),
    (["Tensor([1.0]).nope"], "has no attribute 'nope'"),
    (["3"], "error: explain: expected an expression that gives a Tensor, got int"),
    (["[]"], "got list"),
    (["Tensor([1.0]) + Tensor([1.0, 2.0, 3.0]).reshape(2, 2)"], "error: reshape"),
    (["Tensor([1, 2])", "--grad"], "expected one float Tensor, got int32[2]"),
    (["Tensor([1.0]).detach() * 1", "--grad"], "expected an expression of float tensors"),
    (["Tensor([1.0])", "--device", "nowhere"], "nowhere"),
    (["Tensor([1.0])", "--device", "nowhere", "--target", "any"], "no plugin provides device 'nowhere'"),
    (["Tensor([1.0])", "--device", "ref", "--target", "any"], "it knows no targets by name, got 'any'"),
])
def test_what_cannot_be_explained_says_why(capsys, arguments, message):
    assert cli.main(["explain", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_stages_are_verified(monkeypatch):
    def broken(kernel, capabilities, claim):
        nameless = replace(kernel, axes=(Axis(99, 2, "LOOP"),))
        return Tuned((Phase(nameless, tuple(range(len(kernel.buffers)))),), ())

    monkeypatch.setattr(stages, "tune", broken)
    from pluggrad.cli import explain as command

    with pytest.raises(VerifyError, match="after tune"):
        command.main(["Tensor([1.0, 2.0]) + 1", "--device", "ref"])
