"""Identity of tensors that the user made: where gradients are collected."""
from __future__ import annotations

from typing import Any
from weakref import ref


class Identity:
    """One leaf for gradients. `handle` is a weak reference to the Tensor that stands for it now, or None.

    A LEAF node carries it as argument; when the runtime realizes the leaf, the buffer's version carries it
    on. `marked` says that the Tensor was `requires_grad=True`.
    """

    __slots__ = ("handle", "marked")

    def __init__(self, handle: ref[Any] | None = None, marked: bool = False) -> None:
        self.handle, self.marked = handle, marked

    def live(self) -> Any:
        """The Tensor whose gradient this leaf collects, or None."""
        return None if self.handle is None else self.handle()
