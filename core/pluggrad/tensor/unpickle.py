"""Where tensors come to be that a pickle holds: on the device that they were on, or on one named here."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pluggrad.device.registry import REGISTRY
from pluggrad.errors import DeviceError, DeviceUnavailable
from pluggrad.target import DeviceId

_chosen: ContextVar[DeviceId | None] = ContextVar("pluggrad_unpickle_on", default=None)


@contextmanager
def unpickle_on(device: str | DeviceId) -> Iterator[DeviceId]:
    """In the block, and in this thread, tensors in pickles are made on `device`, wherever they were saved.

    UnknownDevice or DeviceUnavailable for the device.
    """
    where = REGISTRY.resolve(device)
    token = _chosen.set(where)
    try:
        yield where
    finally:
        _chosen.reset(token)


def destination(saved: str) -> DeviceId:
    """Where to make a tensor that was pickled on `saved`; DeviceUnavailable if that is not here."""
    chosen = _chosen.get()
    if chosen is not None:
        return chosen
    try:
        return REGISTRY.resolve(saved)
    except DeviceError as error:
        advice = "or load it elsewhere: with pluggrad.io.unpickle_on(pluggrad.Device.DEFAULT): ..."
        raise DeviceUnavailable(f"a tensor was pickled on '{saved}': {error}    {advice}",
                                hint=advice) from error
