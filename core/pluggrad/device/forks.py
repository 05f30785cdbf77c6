"""Drivers that do not survive a fork: a child is told so, where a call would wait forever."""
from __future__ import annotations

import os
from collections.abc import Callable

from pluggrad.errors import KernelFault


class ForkGuard:
    """Knows whether this process was forked from one with the driver in use. A plugin makes one, for good.

    device: the type of the devices, for the error. in_use: whether this process has loaded the driver.
    """

    def __init__(self, device: str, in_use: Callable[[], bool]) -> None:
        self._device, self._in_use, self._forked = device, in_use, False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._forked = self._forked or self._in_use()

    @property
    def forked(self) -> bool:
        """Whether the driver was in use when this process was forked."""
        return self._forked

    def check(self) -> None:
        """KernelFault in such a child. To be called before the driver is."""
        if self._forked:
            raise KernelFault(
                op=self._device, expected="the process that loaded the driver",
                got="a child that was forked from it",
                hint="Start processes with multiprocessing's method 'spawn', or use "
                     f"{self._device} in the child only")
