"""A device that is lost: every later use says so, its tensors are gone, others go on, the process lives."""
from __future__ import annotations

import gc

import pytest

from pluggrad import Context, Device, jit
from pluggrad.errors import DeviceError, DeviceLost, KernelFault
from tests.deferred_device import opened
from tests.unit.runtime.test_queue import in_a_process, values

pytestmark = pytest.mark.usefixtures("deferred_devices")
NAME = "deferred"
GONE = r"device deferred: expected a device that answers, got lost: it fell off the bus\. .*others go on"


def lose() -> None:
    opened(NAME).lost = "it fell off the bus"


def assert_gone(*actions) -> None:
    for action in actions:
        for _ in range(2):  # it stays lost
            with pytest.raises(DeviceLost, match=GONE) as caught:
                action()
            assert isinstance(caught.value, KernelFault)
            assert isinstance(caught.value, DeviceError)


def test_every_use_of_a_lost_device_says_so():
    x, f = values(8, NAME), jit(lambda x: x * 2)
    f(x).realize()
    stored = (x + 1).realize()
    Device[NAME].synchronize()
    lose()
    assert_gone(stored.numpy, (x * 3).realize, lambda: f(x), lambda: values(4, NAME),
                lambda: x.to("ref").numpy(), lambda: values(3, "ref").to(NAME).realize(),
                Device[NAME].synchronize)


@pytest.mark.parametrize("found_by", [
    lambda x: x.numpy(), lambda x: Device[NAME].synchronize(), lambda x: (x + 1).realize(),
    lambda x: x.to("ref").realize(), lambda x: x.assign(x * 2).realize(), lambda x: values(3, NAME),
])
def test_whatever_finds_it_first(found_by):
    x = values(8, NAME)
    Device[NAME].synchronize()
    lose()
    assert_gone(lambda: found_by(x), x.numpy)


def test_it_is_lost_while_lists_are_in_flight():
    x = values(8, NAME)
    with opened(NAME).held():
        y = (x + 1).realize()
        lose()
    assert_gone(y.numpy, x.numpy, (x + 1).realize)


def test_it_is_lost_under_sync():
    x = values(8, NAME)
    Device[NAME].synchronize()
    lose()
    with Context(SYNC=1):
        assert_gone((x + 1).realize, x.numpy)


def test_the_reason_is_kept_even_where_it_changes():
    x = values(8, NAME)
    Device[NAME].synchronize()
    lose()
    assert_gone(x.numpy)
    opened(NAME).lost = "something else"
    assert_gone(x.numpy)
    opened(NAME).lost = None  # coming back does not bring the memory back
    assert_gone(x.numpy)


def test_other_devices_go_on():
    x, other, third = values(8, NAME), values(8, "deferred:1"), values(8, "ref")
    moved = other.to("ref").realize()
    lose()
    assert_gone(x.numpy)
    assert (other + 1).tolist() == (third + 1).tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert moved.tolist() == other.to("distant").tolist() == third.tolist()


def test_a_copy_from_a_lost_device_does_not_take_the_other_with_it():
    x = values(8, NAME)
    Device[NAME].synchronize()
    lose()
    for other in ("ref", "distant", "deferred:1"):
        with pytest.raises(DeviceLost, match="device deferred:"):
            x.to(other).realize()
        assert values(3, other).tolist() == [0, 1, 2]


def test_lost_memory_is_dropped_in_silence(recwarn):
    tensors = [(values(8, NAME) + i).realize() for i in range(3)]
    lose()
    assert_gone(tensors[0].numpy)
    del tensors
    gc.collect()
    assert not recwarn.list


def test_the_process_lives_and_ends_cleanly(tmp_path):
    result = in_a_process(tmp_path, """
        from pluggrad import Tensor
        from pluggrad.errors import DeviceLost
        x = (Tensor.ones(4, device="deferred").contiguous() + 1).realize()
        deferred_device.opened().lost = "it fell off the bus"
        try:
            x.numpy()
        except DeviceLost as error:
            print(error.got)
        print((Tensor.ones(2, device="ref") + 1).tolist())
    """)
    assert result.stdout == "lost: it fell off the bus\n[2.0, 2.0]\n"
    assert (result.returncode, result.stderr) == (0, "")


def test_a_synchronous_device_can_be_lost(tmp_path):
    result = in_a_process(tmp_path, """
        from pluggrad import Tensor
        from pluggrad.errors import DeviceLost
        from pluggrad.device.ref import RefDevice
        x = Tensor.ones(4, device="ref").contiguous().realize()
        def fall(*arguments):
            raise DeviceLost("it fell off the bus")
        RefDevice.submit = fall
        for use in ((x + 1).realize, x.numpy):
            try:
                use()
            except DeviceLost as error:
                print(error.op, error.got)
        print((Tensor.ones(2, device="deferred:1").contiguous()).device)
    """)
    assert result.stdout == "device ref lost: it fell off the bus\n" * 2 + "deferred:1\n"
    assert (result.returncode, result.stderr) == (0, "")
