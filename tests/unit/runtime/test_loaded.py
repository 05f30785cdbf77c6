"""How a plan's commands are submitted."""

from __future__ import annotations

from unittest import mock

import pytest

from pluggrad.device.contract import Executable, Launch, SlotRef
from pluggrad.runtime.loaded import _starter


class Recordable(Executable):
    def launch(self, args, values, grid, block, scratch):
        """Nothing to do."""


class Library(Recordable):
    replayable = False


@pytest.mark.parametrize(("executables", "features", "prepared"), [
    ([Recordable(), Recordable()], {"graph"}, True),
    ([Recordable(), Library()], {"graph"}, False),
    ([Recordable()], set(), False),
    ([], {"graph"}, False),
], ids=["all replayable", "one is not", "not declared", "nothing to run"])
def test_a_list_is_prepared_if_the_device_can_and_every_executable_allows_it(executables, features, prepared):
    device = mock.Mock()
    device.target.capabilities.features = frozenset(features)
    commands = [Launch(each, (SlotRef(0),), (), 1) for each in executables]
    start = _starter(device, commands, ())
    assert device.prepare.called == prepared
    start([object()], [])
    assert device.submit.called != prepared
