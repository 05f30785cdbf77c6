"""A graph taken through every stage, each result kept: what `explain` prints and golden tests compare."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pluggrad.device.contract import Toolchain
from pluggrad.graph.grammar import GRAMMAR
from pluggrad.ir.node import Node
from pluggrad.ir.passes import Trace
from pluggrad.ir.verify import verify
from pluggrad.kernel.build import Built, build
from pluggrad.kernel.grammar import verify_kernel
from pluggrad.kernel.offer import Claim
from pluggrad.lower import lower
from pluggrad.lower.program import Program
from pluggrad.lower.verify import verify_lowered
from pluggrad.plan import Plan
from pluggrad.plan.build import build_plan
from pluggrad.runtime.compilation import infos_of, signatures_of
from pluggrad.runtime.compiled import CompiledPlan
from pluggrad.runtime.execution import execute
from pluggrad.runtime.normalize import Normalized, rebuild
from pluggrad.runtime.session import Session
from pluggrad.schedule import Region, schedule
from pluggrad.target import Target
from pluggrad.tune import Tuned, tune


@dataclass(frozen=True, slots=True)
class Stages:
    """What each stage made of a graph: `built` and `tuned` by region, `programs` by kernel of the plan.

    Kernels that the backend brings code for have no program.
    """

    graph: list[Node]
    regions: tuple[Region, ...]
    built: list[Built]
    tuned: list[Tuned]
    plan: Plan
    programs: list[Program]


def run_stages(normalized: Normalized, donated: Sequence[int | None], target: Target, trace: Trace,
               claim: Claim | None = None) -> Stages:
    """Everything up to the programs; `trace` records each stage. Needs no device, only a Target."""
    capabilities = target.capabilities
    graph = trace.step("normalize", lambda: rebuild(normalized))
    scheduled = [root for root in graph if root.type.size]
    regions = trace.step("schedule", lambda: schedule(
        scheduled, capabilities.max_buffers, capabilities.online, capabilities.narrow_factors))
    built = trace.step("kernel", lambda: [build(region) for region in regions])
    tuned = trace.step("tune", lambda: [tune(each.kernel, capabilities, claim) for each in built])
    plan = trace.step("plan", lambda: build_plan(graph, donated, capabilities, claim))
    programs = [lower(kernel, target, trace) for number, kernel in enumerate(plan.kernels)
                if number not in plan.externs]
    return Stages(graph, regions, built, tuned, plan, programs)


def render(stages: Stages, toolchain: Toolchain, trace: Trace) -> list[str]:
    """The source of each program."""
    return trace.step("render", lambda: [toolchain.render(program) for program in stages.programs])


def run_once(stages: Stages, sources: list[str], normalized: Normalized, place: Session,
             trace: Trace) -> None:
    """Compile without any cache, load and run, to see what each costs."""
    plan, inputs, dtypes = stages.plan, len(normalized.inputs), normalized.scalar_dtypes
    compiled_sources = iter(trace.step("compile", lambda: place.toolchain.compile_many(sources)))
    brought = [plan.externs.get(i) for i in range(len(plan.kernels))]
    binaries = [next(compiled_sources) if extern is None else extern.payload for extern in brought]
    signatures = signatures_of(plan, place.target)
    compiled = CompiledPlan(signatures, infos_of(plan, signatures), tuple(binaries), plan.commands,
                            plan.outputs, plan.roots, plan.arena_bytes, plan.checks)
    loaded = trace.step("load", lambda: place.load(compiled, inputs, dtypes, plan.kernels))
    values = [scalar.python for scalar in normalized.scalars]
    trace.step("run", partial(execute, place, loaded, normalized.inputs, values))


def verify_stage(value: Any, name: str) -> None:
    """The check of a `Trace` over these stages: VerifyError where one broke its grammar."""
    check = _CHECKS.get(name)
    if check is not None:
        check(value, name)


def _graph(roots: list[Node], name: str) -> None:
    verify(roots, GRAMMAR, name)


def _built(kernels: list[Built], name: str) -> None:
    for each in kernels:
        verify_kernel(each.kernel, name)


def _tuned(kernels: list[Tuned], name: str) -> None:
    for each in kernels:
        for phase in each.phases:
            verify_kernel(phase.kernel, name)


def _planned(plan: Plan, name: str) -> None:
    for kernel in plan.kernels:
        verify_kernel(kernel, name)


_CHECKS: Final[dict[str, Callable[[Any, str], None]]] = {
    "trace": _graph, "autograd": _graph, "normalize": _graph,
    "kernel": _built, "tune": _tuned, "plan": _planned,
    **dict.fromkeys(("safe_integers", "widen", "decompose", "simplify", "linearize"), verify_lowered),
}
