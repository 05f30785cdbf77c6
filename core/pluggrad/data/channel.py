"""Objects from process to process; the memory of arrays is sent as it lies, and received into its place.

`multiprocessing.Pipe` copies a batch four times on its way, and asks for all of its memory at every read.
"""
from __future__ import annotations

import pickle
import socket
import struct
from typing import Any, TypeAlias

import numpy as np

# the number of parts and their sizes, then the parts: the pickle, and each array's memory
Message: TypeAlias = list[bytes | memoryview]
_SIZE = struct.Struct("<Q")


def message(content: object) -> Message:
    """What `Channel.send` sends for an object; errors as of `pickle.dumps`."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(content, 5, buffer_callback=buffers.append)
    parts: Message = [head, *(buffer.raw() for buffer in buffers)]
    sizes = [len(parts), *(len(part) for part in parts)]
    return [b"".join(map(_SIZE.pack, sizes)), *parts]


class Channel:
    """One end of a connection. Can be given to a process as it is started.

    One thread may send while another receives. When the other end is gone, that is a ConnectionError or, for
    `receive`, an EOFError.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Both ends of a new connection."""
        here, there = socket.socketpair()
        return cls(here), cls(there)

    def send(self, parts: Message) -> None:
        """Send what `message` made; waits until the other end has taken most of it."""
        for part in parts:
            self._socket.sendall(part)

    def receive(self) -> Any:
        """The next object; waits for it."""
        count = self._size()
        sizes = [self._size() for _ in range(count)]
        head, *buffers = [self._exactly(size) for size in sizes]
        return pickle.loads(head, buffers=buffers)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def _size(self) -> int:
        return int(_SIZE.unpack(self._exactly(_SIZE.size))[0])

    def _exactly(self, size: int) -> memoryview:
        received = rest = np.empty(size, np.uint8).data
        while rest:
            count = self._socket.recv_into(rest)
            if count == 0:
                raise EOFError("the other end is closed")
            rest = rest[count:]
        return received
