"""What passes between processes comes out as it went in; a closed end is noticed."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pluggrad.data.channel import Channel, message


@pytest.fixture
def ends():
    pair = Channel.pair()
    yield pair
    for end in pair:
        end.close()


@pytest.mark.parametrize(
    "content",
    [None, (3, 4), {"a": [b"x", "y"]}, np.float32(2), np.zeros((0, 3)), np.arange(6).reshape(2, 3).T,
     np.arange(20)[::3], (np.ones(2, np.float16), {"b": np.full((300, 400), 7)})],
    ids=str,
)
def test_objects_come_out_as_they_went_in(ends, content):
    here, there = ends
    sender = threading.Thread(target=lambda: [here.send(message(content)) for _ in range(2)])
    sender.start()
    for _ in range(2):
        np.testing.assert_equal(there.receive(), content)
    sender.join()


def test_arrays_are_not_copied_into_the_message_and_can_be_written_to(ends):
    array = np.zeros(10)
    parts = message(array)
    array[:] = 1
    ends[0].send(parts)
    received = ends[1].receive()
    received += 1
    assert received.tolist() == [2.0] * 10


def test_both_directions(ends):
    for here, there in (ends, ends[::-1]):
        here.send(message("hello"))
        assert there.receive() == "hello"


def test_a_closed_end(ends):
    ends[0].send(message(1)[:1])  # cut short
    ends[0].close()
    with pytest.raises(EOFError):
        ends[1].receive()
    with pytest.raises(ConnectionError):
        ends[1].send(message(np.zeros(1000000)))
