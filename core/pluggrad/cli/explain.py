"""`python -m pluggrad explain EXPR`: an expression in every stage, from its graph to what runs.

With `--target NAME` for a device that need not be here: every stage up to its source, and nothing runs.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pluggrad import autograd, dtypes, nn
from pluggrad.cli.stages import Stages, render, run_once, run_stages, verify_stage
from pluggrad.device.contract import Toolchain
from pluggrad.device.registry import REGISTRY
from pluggrad.errors import (
    DeviceError,
    DeviceUnavailable,
    DTypeError,
    GradientError,
    MixedDevices,
    PluggradError,
    UnknownDevice,
)
from pluggrad.graph import build, ops
from pluggrad.graph.text import arg_text, graph_text
from pluggrad.ir.node import Node
from pluggrad.ir.passes import Trace
from pluggrad.kernel.cost import cost
from pluggrad.kernel.offer import Claim
from pluggrad.kernel.text import axes_text, kernel_text, summary
from pluggrad.lower.text import header, program_text
from pluggrad.plan import PlannedLaunch
from pluggrad.plan.text import plan_text, waves
from pluggrad.runtime import GlobalCounters, read
from pluggrad.runtime.devices import device
from pluggrad.runtime.execution import execute
from pluggrad.runtime.normalize import Normalized, normalize
from pluggrad.runtime.session import Session
from pluggrad.runtime.sessions import session
from pluggrad.runtime.supported import require_dtype
from pluggrad.schedule.text import schedule_text
from pluggrad.target import DeviceId, Target
from pluggrad.tensor import Tensor

T = TypeVar("T")
_ANYWHERE: Final = "ref"  # where an expression is evaluated whose code is for a device that is not here


@dataclass(frozen=True, slots=True)
class Place:
    """What code is made for. title: in words. session: of the device that runs it; None for a target by
    name, of which none need be here."""

    title: str
    device: DeviceId
    target: Target
    toolchain: Toolchain
    claim: Claim | None = None
    session: Session | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What is explained: the expression's nodes, those of its gradient, what no kernel computes, and what the
    stages made of the rest."""

    values: list[Node]
    gradients: list[Node]
    apart: list[Node]
    normalized: Normalized
    stages: Stages
    sources: list[str]
    place: Place
    full: bool

    def clip(self, lines: Sequence[str], limit: int) -> list[str]:
        """The first `limit` lines, unless all are asked for."""
        hidden = len(lines) - limit
        if self.full or hidden < 2:
            return list(lines)
        return [*lines[:limit], f"... {hidden} more lines, --full shows them"]


def main(arguments: Sequence[str]) -> int:
    """Print the stages asked for; 2 where the expression cannot be evaluated."""
    options = _parser().parse_args(arguments)
    named = _named(options.device, options.target) if options.target else None
    trace = Trace(verify=verify_stage)
    try:
        with _evaluated_on(options.device, named):
            values = trace.step("trace", lambda: _nodes(_evaluate(options.expression)))
    except PluggradError:
        raise
    except Exception as error:
        print(f"error: {options.expression}: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    subject = _explain(values, options.grad, options.full, named, trace)
    print("\n".join(_report(subject, options)))
    if options.time:
        if subject.place.session is not None:
            run_once(subject.stages, subject.sources, subject.normalized, subject.place.session, trace)
        print("\n".join(["", *_times(trace)]))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pluggrad explain", description=__doc__)
    names = ", ".join(_SECTIONS)
    parser.add_argument("expression", metavar="EXPR",
                        help="Python over Tensor, nn and dtypes that gives a Tensor or a list of them")
    parser.add_argument("--grad", action="store_true",
                        help="with the gradients of EXPR.sum() in the float tensors that it is computed from")
    parser.add_argument("--device", metavar="NAME", help="the default device while EXPR is evaluated")
    parser.add_argument("--target", metavar="NAME", help="code for this target of the device, of which there "
                        "need be none here: every stage but the run")
    parser.add_argument("--asm", action="store_true", help="machine code, too: the stage asm")
    parser.add_argument("--stage", choices=tuple(_SECTIONS), metavar="NAME", help=f"only one of {names}")
    parser.add_argument("--time", action="store_true", help="what each stage and pass costs, and one run")
    parser.add_argument("--full", action="store_true", help="shorten nothing")
    return parser


def _evaluated_on(name: str | None, named: Place | None) -> AbstractContextManager[object]:
    """Where an expression is evaluated: on the device asked for, if there has to be one."""
    if named is not None:
        return device(_ANYWHERE)
    return nullcontext() if name is None else device(_resolved(name))


def _resolved(name: str) -> DeviceId:
    """The device asked for; where it is unavailable, the error says for which targets it need not be."""
    try:
        return REGISTRY.resolve(name)
    except DeviceUnavailable as error:
        known: list[str] = []
        with suppress(DeviceError):
            known = list(REGISTRY.named_targets(DeviceId.parse(name)))
        if not known:
            raise
        raise DeviceUnavailable(f"{error}    or: --target NAME, which shows code without it, for "
                                f"{', '.join(known)}", hint=error.hint) from error


def _named(name: str | None, wanted: str) -> Place:
    """A target that the plugin of the device knows by name; UnknownDevice with those that there are."""
    asked = REGISTRY.resolve(None) if name is None else DeviceId.parse(name)
    known = REGISTRY.named_targets(asked)
    if wanted not in known:
        expected = f"one of {', '.join(known)}" if known else "nothing: it knows no targets by name"
        raise UnknownDevice(op=f"explain --target, device {asked}", expected=expected, got=repr(wanted))
    target = known[wanted]
    return Place(f"for {asked} {wanted}", asked, target, REGISTRY.toolchain_for(asked, target))


def _of_session(device: DeviceId) -> Place:
    """An open device."""
    place = session(device)
    return Place(f"on {device}", device, place.target, place.toolchain, place.claim, place)


def _evaluate(expression: str) -> Any:
    return eval(expression, {"Tensor": Tensor, "nn": nn, "dtypes": dtypes})


def _nodes(value: Any) -> list[Node]:
    """The graph nodes of a Tensor, or of several in lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        return [value.node]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)) and value:
        return [node for item in value for node in _nodes(item)]
    raise DTypeError(op="explain", expected="an expression that gives a Tensor", got=type(value).__name__)


def _explain(values: list[Node], grad: bool, full: bool, named: Place | None, trace: Trace) -> Subject:
    roots = values
    gradients: list[Node] = []
    if grad:
        roots = trace.step("autograd", lambda: _differentiate(values))
        gradients = roots[1:]
    devices = {root.device for root in roots}
    if len(devices) > 1:
        raise MixedDevices(op="explain", expected="one device", got=" and ".join(sorted(map(str, devices))))
    normalized = normalize(roots)
    apart: list[Node] = []
    while normalized.apart:
        apart.append(normalized.apart[0])
        read(apart[-1])  # a plan holds kernels of one device
        normalized = normalize(roots)
    place = named or _of_session(roots[0].device)
    for _, _, kind, _ in normalized.rows:
        require_dtype(place.device, kind.dtype, place.target)
    stages = run_stages(normalized, (None,) * len(roots), place.target, trace, place.claim)
    sources = render(stages, place.toolchain, trace)
    return Subject(values, gradients, apart, normalized, stages, sources, place, full)


def _differentiate(values: list[Node]) -> list[Node]:
    """The sum of the one value, and then its gradients in the order in which it reaches the leaves."""
    if len(values) != 1 or not values[0].dtype.is_float:
        got = ", ".join(repr(value.type) for value in values)
        raise GradientError(op="explain --grad", expected="one float Tensor", got=got)
    loss = build.reduce(ops.SUM, values[0])
    found = autograd.trace(loss)
    if not found.leaves:
        raise GradientError(op="explain --grad", expected="an expression of float tensors", got="none in it")
    seeds = {loss: build.const(1.0, loss.dtype, loss.device)}
    return [loss, *autograd.gradients(found, seeds, list(dict.fromkeys(found.leaves.values()))).values()]


# ---- sections ----------------------------------------------------------------------------------------------
Section = Callable[[Subject], tuple[str, Sequence[str]]]  # a title, and lines


def _chosen(options: argparse.Namespace, subject: Subject) -> list[str]:
    """The sections to print."""
    if options.stage is not None:
        return [options.stage]
    left_out = {"asm": not options.asm, "autograd": not subject.gradients,
                "runtime": subject.place.session is None}
    return [name for name in _SECTIONS if not left_out.get(name)]


def _report(subject: Subject, options: argparse.Namespace) -> Iterator[str]:
    alone = options.stage is not None
    if not alone:
        yield options.expression
        yield _device(subject.place)
    for name in _chosen(options, subject):
        title, lines = _SECTIONS[name](subject)
        if not alone:
            yield ""
        yield f"=== {name}: {title}"
        yield from lines


def _device(place: Place) -> str:
    has = place.target.capabilities
    registers = f", {has.vector_registers} vector registers of {has.vector_bytes} bytes"
    return f"{place.title}: {_count(range(has.cores), 'core')}{registers if has.vector_bytes else ''}"


def _graph(subject: Subject) -> tuple[str, Sequence[str]]:
    lines = graph_text(subject.values).splitlines()
    return f"{_count(lines, 'node')}, {_count(subject.values, 'root')}", subject.clip(lines, 20)


def _autograd(subject: Subject) -> tuple[str, Sequence[str]]:
    lines = graph_text(subject.gradients).splitlines()
    return f"{_count(subject.gradients, 'gradient')}, {_count(lines, 'node')}", subject.clip(lines, 20)


def _schedule(subject: Subject) -> tuple[str, Sequence[str]]:
    regions = subject.stages.regions
    lines = schedule_text(regions, subject.full).splitlines()
    return _count(regions, "region"), [*map(_apart_text, subject.apart), *subject.clip(lines, 20)]


def _apart_text(n: Node) -> str:
    sources = ", ".join([str(source.type) for source in n.src])
    return f"before, in no kernel: {n.op.name.lower()}[{arg_text(n)}]({sources}): {n.type}"


def _kernel(subject: Subject) -> tuple[str, Sequence[str]]:
    kernels = list(dict.fromkeys(built.kernel for built in subject.stages.built))
    shown = [kernel_text(kernel).splitlines() if subject.full else summary(kernel) for kernel in kernels]
    return f"{_count(kernels, 'kernel')} of different code", subject.clip(_flat(shown), 15)


def _tune(subject: Subject) -> tuple[str, Sequence[str]]:
    kernels = [built.kernel for built in subject.stages.built]
    pairs = dict.fromkeys(zip(kernels, subject.stages.tuned, strict=True))
    lines: list[str] = []
    for before, after in pairs:
        lines += [f"{before.name}: axes {axes_text(before)}"] if not subject.full else []
        for phase in after.phases:
            by = f" by {phase.extern.name}" if phase.extern is not None else ""
            short = [f"  -> {phase.kernel.name}{by}: axes {axes_text(phase.kernel)}"]
            lines += kernel_text(phase.kernel).splitlines() if subject.full else short
    return _count(_flat([after.phases for _, after in pairs]), "kernel"), subject.clip(lines, 14)


def _plan(subject: Subject) -> tuple[str, Sequence[str]]:
    plan = subject.stages.plan
    counts = [_count(plan.commands, "command"), _count(waves(plan), "wave"), _count(plan.kernels, "kernel")]
    return ", ".join(counts), subject.clip(plan_text(plan).splitlines(), 18)


def _lower(subject: Subject) -> tuple[str, Sequence[str]]:
    programs = subject.stages.programs
    texts = [program_text(program).splitlines() for program in programs]
    heads = [header(program) for program in programs]
    return _count(programs, "program"), _with_largest(subject, texts, heads)


def _render(subject: Subject) -> tuple[str, Sequence[str]]:
    return _texts(subject, subject.sources, "source")


def _asm(subject: Subject) -> tuple[str, Sequence[str]]:
    assembly = subject.place.toolchain.assembly
    return _texts(subject, [assembly(source) for source in subject.sources], "listing")


def _texts(subject: Subject, found: Sequence[str], what: str) -> tuple[str, Sequence[str]]:
    """A text for each program."""
    names = [f"{program.name} ({program.kernel.name})" for program in subject.stages.programs]
    texts = [text.splitlines() for text in found]
    heads = [f"{name}: {len(text)} lines" for name, text in zip(names, texts, strict=True)]
    return _count(texts, what), _with_largest(subject, texts, heads)


def _with_largest(subject: Subject, texts: list[list[str]], heads: list[str]) -> list[str]:
    """Everything in full; else a line for each text, and how the largest begins."""
    if subject.full:
        return _flat(texts)
    largest = max(texts, key=len, default=[])
    return [*subject.clip(heads, 6), *subject.clip([f"  {line}" for line in largest], 12)]


def _runtime(subject: Subject) -> tuple[str, Sequence[str]]:
    """Runs the expression once, through the runtime's own caches."""
    plan, normalized, place = subject.stages.plan, subject.normalized, subject.place.session
    if place is None:
        raise DeviceUnavailable(op="explain --stage runtime", expected="a device that runs the plan",
                                got=subject.place.title, hint="Leave --target out")
    launched = [plan.kernels[c.kernel] for c in plan.commands if isinstance(c, PlannedLaunch)]
    work = [cost(kernel) for kernel in launched]
    flops, moved = sum(each.flops for each in work), sum(each.bytes for each in work)
    inputs = sum(kind.size * kind.dtype.itemsize for kind in normalized.input_types)
    outputs = sum(output.nbytes for output in plan.outputs)
    values = _count(normalized.scalars, "value")
    GlobalCounters.reset()
    loaded = place.plan(normalized, (None,) * len(normalized.roots))
    execute(place, loaded, normalized.inputs, [scalar.python for scalar in normalized.scalars])
    counters = ", ".join(f"{name} {count}" for name, count in GlobalCounters.snapshot().items() if count)
    return f"{_count(launched, 'launch', 'launches')} in {_count(waves(plan), 'wave')}", [
        f"inputs: {inputs} bytes in {_count(normalized.inputs, 'buffer')}, and {values}",
        f"outputs: {outputs} bytes in {_count(plan.outputs, 'buffer')}",
        f"arena: {plan.arena_bytes} bytes for temporaries",
        f"work: {flops} additions or their worth, {moved} bytes moved",
        f"counters after one run: {counters}"]


_SECTIONS: Final[dict[str, Section]] = {
    "graph": _graph, "autograd": _autograd, "schedule": _schedule, "kernel": _kernel, "tune": _tune,
    "plan": _plan, "lower": _lower, "render": _render, "asm": _asm, "runtime": _runtime,
}


def _times(trace: Trace) -> Iterator[str]:
    """Milliseconds by stage, in the order in which they first ran; a pass adds up over kernels."""
    total: dict[str, float] = {}
    for record in trace.records:
        total[record.name] = total.get(record.name, 0.0) + record.seconds
    yield "=== time, without any cache"
    for name, seconds in total.items():
        note = "  (schedule, kernel and tune once more)" if name == "plan" else ""
        yield f"{name:<14}{seconds * 1e3:9.3f} ms{note}"


def _count(items: Sequence[Any], singular: str, plural: str = "") -> str:
    return f"{len(items)} {singular if len(items) == 1 else plural or singular + 's'}"


def _flat(parts: Sequence[Sequence[T]]) -> list[T]:
    return [item for part in parts for item in part]
