"""Everything that a run goes on from, in one file: a safetensors file whose text says what is where."""
from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

from pluggrad.errors import FileFormatError, StateError, ValueRangeError
from pluggrad.io.safetensors import safe_load, safe_load_metadata, safe_save
from pluggrad.nn.state.tensors import get_state_dict, load_state_dict
from pluggrad.tensor import Tensor
from pluggrad.tensor.random_state import get_rng_state, set_rng_state

_METADATA: Final = "pluggrad.checkpoint"  # under which the file has its text
_TENSOR: Final = "$tensor"  # stands in the text where a tensor was, with its name


def save_checkpoint(path: str | os.PathLike[str], model: object, optimizer: Any = None, step: int = 0,
                    **parts: Any) -> None:
    """Write all that a run goes on from: tensors, options and counts, the position of the random stream.

    parts: what else the run needs, by names of your own: objects with `state_dict` (a schedule, a GradScaler,
    a DataLoader), tensors, and plain values (numbers, text, lists, dictionaries with text as keys). Written
    as by `safe_save`: whole, or the file from before stays, even if the process is killed. ValueRangeError
    for a part of another kind, MissingLibrary without safetensors, OSError where it cannot be written.

    ```python
    nn.state.save_checkpoint("run.ckpt", model, optimizer, step, schedule=schedule, loader=loader)
    step = nn.state.load_checkpoint("run.ckpt", model, optimizer, schedule=schedule, loader=loader)["step"]
    ```
    """
    whole = {"step": step, "rng": list(get_rng_state()), "model": get_state_dict(model),
             **({} if optimizer is None else {"optimizer": optimizer}), **parts}
    tensors: dict[str, Tensor] = {}
    tree = {name: _noted(part.state_dict() if hasattr(part, "state_dict") else part, name, tensors)
            for name, part in whole.items()}
    safe_save(tensors, path, {_METADATA: json.dumps(tree)})


def load_checkpoint(path: str | os.PathLike[str], model: object = None, optimizer: Any = None, *,
                    rng: bool = True, **parts: Any) -> dict[str, Any]:
    """Go on from where `save_checkpoint` was called: the rest of the run gives the same numbers, bit for bit.

    What is given takes its state; give the same parts as were saved, or only some, such as the model alone.
    Returns the step, as "step", and the tensors and plain values that were saved as parts. rng: goes on with
    the random stream as well. StateError for a part that the file lacks, or one of another architecture (the
    model comes first: if it does not fit, nothing is changed); FileFormatError for a file of another kind.
    """
    text = safe_load_metadata(path).get(_METADATA)
    if text is None:
        raise FileFormatError(op=f"load_checkpoint of {os.fspath(path)}", got="a file of tensors alone",
                              expected="a file that save_checkpoint wrote",
                              hint="Load it with nn.state.safe_load and load_state_dict")
    tree, tensors = json.loads(text), safe_load(path)
    given = {"model": model, "optimizer": optimizer, **parts}
    wanted = {name: part for name, part in given.items() if part is not None}
    missing = [name for name in wanted if name not in tree]
    if missing:
        raise StateError(op=f"load_checkpoint of {os.fspath(path)}", expected=", ".join(wanted),
                         got=f"a file without {', '.join(missing)}")
    found = {name: _restored(part, tensors) for name, part in tree.items()}
    if model is not None:
        load_state_dict(model, found["model"])
    for name, part in wanted.items():
        if name != "model":
            part.load_state_dict(found[name])
    if rng:
        seed, position = found["rng"]
        set_rng_state((seed, position))
    taken = {*wanted, "model", "optimizer", "rng"}
    return {name: value for name, value in found.items() if name not in taken}


def _noted(part: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`part` as JSON has it, with the names of tensors in place of the tensors."""
    if isinstance(part, Tensor):
        while name in tensors:  # "a.b" may be a key, and the way to one
            name += "'"
        tensors[name] = part
        return {_TENSOR: name}
    if isinstance(part, Mapping) and all(isinstance(key, str) and key != _TENSOR for key in part):
        return {key: _noted(value, f"{name}.{key}", tensors) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [_noted(value, f"{name}.{index}", tensors) for index, value in enumerate(part)]
    if part is None or isinstance(part, bool | int | float | str):
        return part
    raise ValueRangeError(op="save_checkpoint", got=f"{type(part).__name__} as {name}",
                          expected="tensors, numbers, text, lists, dictionaries with text as keys, and "
                                   "objects with state_dict")


def _restored(part: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(part, dict):
        if set(part) == {_TENSOR}:
            return tensors[part[_TENSOR]]
        return {key: _restored(value, tensors) for key, value in part.items()}
    return [_restored(value, tensors) for value in part] if isinstance(part, list) else part
