"""What optimizers share.

Options that are numbers, and step counts, are values on the host that graphs read at run time: changing one
compiles nothing and reaches captured functions. Updates are built as graph nodes, without Tensors between
them, and realized in one call.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np

from pluggrad import dtypes, runtime
from pluggrad.errors import StateError
from pluggrad.graph import build, ops
from pluggrad.graph.scalar import HostValue
from pluggrad.ir.node import Node
from pluggrad.nn.optim.groups import ParamGroup, groups
from pluggrad.nn.optim.updates import Updates
from pluggrad.target import DeviceId
from pluggrad.tensor import Tensor
from pluggrad.tensor.tracing import active

_updates: Final[WeakKeyDictionary[Optimizer, Updates]] = WeakKeyDictionary()  # a copy has its own


class Optimizer(ABC):
    """The tensors that an optimizer changes, in groups with options of their own, and the step.

    `params` is a module, a tensor, or any nesting of them in lists and dictionaries; or a list of groups,
    dictionaries like {"params": model.head, "lr": 0.01} whose other options are the optimizer's. All float
    tensors in it are marked `requires_grad`: to leave some alone, pass the others. `param_groups` are the
    groups, `params` all their tensors. maximize: climb instead of descending.
    """

    def __init__(self, params: object, **options: Any) -> None:
        self.param_groups = groups(type(self).__name__, params, options)
        self.params = [tensor for group in self.param_groups for tensor in group.params]
        self._group_of = [group for group in self.param_groups for _ in group.params]
        self._initial_lrs: dict[int, float] = {}
        # what is kept beside each tensor from step to step
        self.state = [self._initial(param, group)
                      for param, group in zip(self.params, self._group_of, strict=True)]
        # steps that each tensor took so far; tensors that never missed one share a count
        self._counts = [HostValue(0, "step", counts=True)] * len(self.params)
        self._unless: Tensor | None = None  # a bool: where it holds, a step changes nothing (see GradScaler)
        # stored from the start: the first step then has the same graph, and the same kernels, as all others
        Tensor.realize(*self.params)

    @property
    def lr(self) -> float:
        """The learning rate (of the first group); a new one holds for all groups from the next step on."""
        return float(self.param_groups[0]["lr"])

    @lr.setter
    def lr(self, lr: float) -> None:
        for group in self.param_groups:
            group["lr"] = lr

    def initial_lr(self, group: ParamGroup) -> float:
        """The learning rate that a group had before the first schedule changed it."""
        return self._initial_lrs.setdefault(id(group), float(group["lr"]))

    def zero_grad(self) -> None:
        """Forget the gradients: `grad` is None until the next `backward`."""
        for param in self.params:
            param.grad = None

    # ---- the step ------------------------------------------------------------------------------------------
    def step(self) -> None:
        """Change every tensor that has a gradient, and compute all that is pending with it in one go.

        If that fails, or is interrupted, the tensors are as they were before. In a function that is captured
        it is computed when that returns, together with the rest: only then nobody holds the old weights any
        more, and the new ones go in their place.
        """
        if runtime.capturing():
            if any(param.node.op is not ops.BUFFER for param in self.params):  # a second step of one call
                runtime.realize_pending()
            self._scheduled(calls=False)
            return
        tensors = [*self.params, *[tensor for kept in self.state for tensor in kept.values()]]
        # versions, not nodes: who holds the node of a value keeps it from being overwritten in place
        before = [(t, t.node.arg) for t in tensors if t.node.op is ops.BUFFER]
        sharing, counts = list(self._counts), [(count, count.value) for count in self._counts]
        try:
            changed = self._scheduled(calls=not active.traces and runtime.calls_pay())
            if changed:
                Tensor.realize(*changed)
        except BaseException:
            if any(tensor.node.op is not ops.BUFFER for tensor, _ in before):  # else it was done
                for tensor, version in before:
                    tensor._take_back(version)
                self._counts = sharing
                for count, value in counts:
                    count.value = value
            raise

    def schedule_step(self) -> list[Tensor]:
        """As `step`, but computing nothing yet: the tensors to realize, together with others if you like."""
        return self._scheduled(calls=False)

    def _scheduled(self, calls: bool) -> list[Tensor]:
        """calls: nobody sees the graphs before they are computed, so calls may stand for them."""
        grads = [param._promised_grad() if calls else param.grad for param in self.params]
        found = {index: grad for index, grad in enumerate(grads) if grad is not None}
        counts = self._counts_of(list(found))
        changed: list[Tensor] = []
        updates = self._updates() if calls and self._unless is None else None
        for index, grad in found.items():
            if updates is not None and self.params[index]._base is None:
                changed += self._call(index, grad, updates)
            else:
                changed += self._assign(index, grad)
        for count in counts:  # after they were read: a replay reads them as they are before its step, too
            count.read()
            count.value += 1
        return changed

    def _counts_of(self, indices: list[int]) -> list[HostValue]:
        """The counts of these tensors; where only some of those that share one take a step, they part."""
        if len(indices) == len(self._counts):
            return list(dict.fromkeys(self._counts))
        sharing, stepping = Counter(self._counts), Counter(self._counts[index] for index in indices)
        parted = {count: count if stepping[count] == sharing[count]
                  else HostValue(count.value, "step", counts=True) for count in stepping}
        for index in indices:
            self._counts[index] = parted[self._counts[index]]
        return list(parted.values())

    def _kept(self, index: int, device: DeviceId) -> dict[str, Tensor]:
        """What is kept beside a tensor, where the tensor is."""
        kept = self.state[index]
        for tensor in kept.values():
            if tensor.node.type.device != device:  # the model was moved since
                tensor.to_(device)
        return kept

    def _changed(self, index: int, before: Node, grad: Node,
                 kept: dict[str, Node]) -> tuple[Node, dict[str, Node]]:
        """`_update` of a tensor in the dtype that sums of its elements have."""
        group, working = self._group_of[index], dtypes.accumulator_dtype(before.dtype)
        slope = build.cast(grad, working)
        value, states = self._update(group, self._counts[index], build.cast(before, working),
                                     build.unary(ops.NEG, slope) if group["maximize"] else slope, kept)
        return build.cast(value, before.dtype), states

    def _updates(self) -> Updates:
        """The templates of updates, for the present values of all options."""
        found = _updates.get(self)
        if found is None:
            found = _updates[self] = Updates()
        found.read([group.switches() for group in self.param_groups])
        return found

    def _call(self, index: int, grad: Tensor, updates: Updates) -> list[Tensor]:
        """As `_assign`, by a template."""
        param, group, count = self.params[index], self._group_of[index], self._counts[index]
        before, slope = param.node, grad._promise() or grad.node
        kept = self._kept(index, before.type.device)
        nodes = [before, slope, *[tensor.node for tensor in kept.values()]]
        types = tuple([n.type for n in nodes])
        key = id(group), count, types
        update = updates.get(key) or updates.make(key, types, list(kept), partial(self._changed, index))
        value, *states = update(*nodes)
        param._overwrite(value)
        changed = [param]
        for name, state in zip(update.states, states, strict=True):
            kept[name]._overwrite(state)
            changed.append(kept[name])
        grad._keep_promise(build.detach(slope))  # stored too, as in `_assign`
        changed.append(grad)
        return changed

    def _assign(self, index: int, grad: Tensor) -> Iterator[Tensor]:
        param = self.params[index]
        before = param.node
        kept = self._kept(index, before.device)
        value, states = self._changed(index, before, grad.node,
                                      {name: tensor.node for name, tensor in kept.items()})
        if self._unless is not None:
            unless = build.copy(self._unless.node, before.device)
            value = build.where(unless, before, value)
            states = {name: build.where(unless, kept[name].node, state) for name, state in states.items()}
        param._write(value, as_leaf=True)
        yield param
        for name, state in states.items():
            kept[name]._write(build.detach(state))
            yield kept[name]
        # stored too: its graph would keep the old values alive, and compute them again when read
        grad.rebind(build.detach(grad.node))
        yield grad

    # ---- what each optimizer is ----------------------------------------------------------------------------
    @abstractmethod
    def _initial(self, param: Tensor, group: ParamGroup) -> dict[str, Tensor]:
        """What is kept beside a tensor, as it is before the first step."""

    @abstractmethod
    def _update(self, group: ParamGroup, count: HostValue, param: Node, grad: Node,
                kept: dict[str, Node]) -> tuple[Node, dict[str, Node]]:
        """The new value of a tensor and of what is kept beside it; count: the steps before this one.

        All nodes have the dtype in which sums of the tensor's elements are taken. The graph may depend on
        which options are 0, on options that are no numbers, and on nothing else that changes between steps:
        it is built once and called then.
        """

    def __repr__(self) -> str:
        options = dict(self.param_groups[0].options())
        if len(self.param_groups) > 1:
            rows = "".join(f"  {group!r}\n" for group in self.param_groups)
            return f"{type(self).__name__}(\n{rows})"
        shown = ", ".join(f"{name}={value}" for name, value in options.items())
        return f"{type(self).__name__}({len(self.params)} tensors, {shown})"

    # ---- saving --------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on: options, averages and step counts, but not the tensors changed.

        {"optimizer": its name, "param_groups": [the options of each, with the positions of its tensors as
        "params"], "state": {"0": {"step": 3, "m": tensor, ...}, ...}} by the position of a tensor in
        `params`. The tensors are the optimizer's own.
        """
        position = {id(tensor): index for index, tensor in enumerate(self.params)}
        rows = [{**group.options(), "params": [position[id(tensor)] for tensor in group.params]}
                for group in self.param_groups]
        kept = {str(index): {"step": int(self._counts[index].value), **tensors}
                for index, tensors in enumerate(self.state)}
        return {"optimizer": type(self).__name__, "param_groups": rows, "state": kept}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` of an optimizer of the same kind, over tensors like these, returned.

        StateError lists every difference (kind, groups, shapes), and nothing is changed then.
        """
        problems = list(self._differences(state_dict))
        if problems:
            listed = "\n  ".join(["one that differs:", *problems])
            raise StateError(op=f"{type(self).__name__}.load_state_dict", got=f"{listed}\nNothing was loaded",
                             expected="the state of the same optimizer for tensors like these")
        rows: Any = [state_dict["state"][str(index)] for index in range(len(self.params))]
        targets = [(tensor, row[name]) for kept, row in zip(self.state, rows, strict=True)
                   for name, tensor in kept.items()]
        values = [value.detach().to(target.device).cast(target.dtype) for target, value in targets]
        if values:  # computed before the first is assigned: what can fail, fails while the state is whole
            Tensor.realize(*values)
            for (target, _), value in zip(targets, values, strict=True):
                target.assign(value)
            Tensor.realize(*[target for target, _ in targets])
        for group, options in zip(self.param_groups, state_dict["param_groups"], strict=True):
            group.update({name: options[name] for name in group.options()})
        steps = [int(row["step"]) for row in rows]
        counts = {step: HostValue(step, "step", counts=True) for step in steps}
        self._counts = [counts[step] for step in steps]
        _updates.pop(self, None)  # they read the counts of before

    def _differences(self, given: Mapping[str, Any]) -> Iterator[str]:
        name = type(self).__name__
        missing = {"optimizer", "param_groups", "state"} - set(given)
        if missing:
            yield f"no {', '.join(sorted(missing))}: it is not the state of an optimizer"
            return
        if given["optimizer"] != name:
            yield f"it is of {given['optimizer']}, not of {name}"
            return
        if len(given["param_groups"]) != len(self.param_groups):
            yield f"{len(given['param_groups'])} groups, not {len(self.param_groups)}"
            return
        for number, (group, row) in enumerate(zip(self.param_groups, given["param_groups"], strict=True)):
            if len(row["params"]) != len(group.params):
                yield f"group {number}: {len(row['params'])} tensors, not {len(group.params)}"
            for option in sorted(set(group.options()) - set(row)):
                yield f"group {number}: no option {option}"
        for index, kept in enumerate(self.state):
            yield from _differing(str(index), kept, given["state"].get(str(index)))


def _differing(index: str, kept: Mapping[str, Tensor], row: Mapping[str, Any] | None) -> Iterator[str]:
    names = {"step", *kept}
    if row is None or set(row) != names:
        held = "nothing" if row is None else ", ".join(sorted(row))
        yield f"tensor {index}: {held}, not {', '.join(sorted(names))}"
        return
    for name, tensor in kept.items():
        if row[name].shape != tensor.shape:
            yield f"tensor {index}: {name} of shape {row[name].shape}, not {tensor.shape}"


def zeros_like(param: Tensor, fill: float = 0.0) -> Tensor:
    """Stored zeros, or another number, beside a tensor, in the dtype that sums of its elements have."""
    dtype = dtypes.accumulator_dtype(param.dtype)
    return Tensor(np.full(param.shape, fill, dtype.numpy), device=param.device, requires_grad=False)
