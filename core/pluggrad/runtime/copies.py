"""Bytes to, from, between and within devices, after what was submitted, and reported to observers."""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from pluggrad.device.contract import Allocation, CopyCommand, SlotRef
from pluggrad.device.hookspecs import CopyFinished
from pluggrad.device.registry import REGISTRY
from pluggrad.runtime.storage import Storage
from pluggrad.target import DeviceId

if TYPE_CHECKING:
    from pluggrad.runtime.session import Session


def upload(place: Session, target: Storage, data: memoryview) -> None:
    """Host bytes into a storage; `data` may be reused on return."""
    with place.queue:
        _timed(place.id, "upload", data.nbytes,
               place.device.allocator.copyin, target.block.allocation, 0, data)


def download(place: Session, data: memoryview, source: Storage, offset: int = 0) -> None:
    """A storage's bytes, from `offset` on, to the host; KernelFault if what should have computed them failed.
    """
    queue = place.queue
    with queue:
        if queue.deferred:
            queue.wait()
        source.require_usable()
        _timed(place.id, "download", data.nbytes,
               place.device.allocator.copyout, data, source.block.allocation, offset)


def on_host(place: Session, source: Storage, nbytes: int) -> memoryview:
    """A storage's bytes where the host reads them: in place if it sees the memory, else a copy."""
    if nbytes == 0 or "zero_copy" not in place.target.capabilities.features:
        data = memoryview(bytearray(nbytes))
        if nbytes:
            download(place, data, source)
        return data
    with place.queue:
        if place.queue.deferred:
            place.queue.wait()
        source.require_usable()
    return _host_view(place, source.block.allocation, nbytes).toreadonly()


def duplicate(place: Session, target: Storage, source: Storage, nbytes: int) -> None:
    """Copy within a device, behind what was submitted to it."""
    queue = place.queue
    with queue:
        if queue.deferred:
            queue.make_room()
        event = place.device.submit((CopyCommand(SlotRef(0), SlotRef(1), nbytes),),
                                    [target.block.allocation, source.block.allocation], ())
        if queue.deferred:
            queue.add(event, "of a copy", [target], None)
        else:
            event.wait()


def transfer(place: Session, target: Storage, other: Session, source: Storage, nbytes: int) -> None:
    """Copy from another device: directly where both can, through memory that the host shares with one of
    them, else through a copy in host memory."""
    if place.device is other.device:  # two variants of one device
        duplicate(place, target, source, nbytes)
        return
    other.queue.synchronize()
    source.require_usable()
    _timed(place.id, "transfer", nbytes, _way(place, other), place, target.block.allocation, other,
           source.block.allocation, nbytes, source=other.id)


# how bytes get from `origin` on `other` to `to` on `place`; a device that is lost on the way is the one whose
# queue is entered
def _directly(place: Session, to: Allocation, other: Session, origin: Allocation, nbytes: int) -> None:
    with place.queue:
        place.queue.synchronize()
        place.device.allocator.copy_peer(  # type: ignore[attr-defined]
            to, 0, other.device.allocator, origin, 0, nbytes)


def _out_of_shared(place: Session, to: Allocation, other: Session, origin: Allocation, nbytes: int) -> None:
    with place.queue:
        place.device.allocator.copyin(to, 0, _host_view(other, origin, nbytes))


def _into_shared(place: Session, to: Allocation, other: Session, origin: Allocation, nbytes: int) -> None:
    place.queue.synchronize()
    with other.queue:
        other.device.allocator.copyout(_host_view(place, to, nbytes), origin, 0)


def _staged(place: Session, to: Allocation, other: Session, origin: Allocation, nbytes: int) -> None:
    staging = memoryview(bytearray(nbytes))
    with other.queue:
        other.device.allocator.copyout(staging, origin, 0)
    with place.queue:
        place.device.allocator.copyin(to, 0, staging)


def _way(place: Session, other: Session) -> Callable[..., None]:
    here, there = place.target.capabilities.features, other.target.capabilities.features
    peers = place.id.type == other.id.type and "peer" in here & there
    if peers and place.device.allocator.can_access(other.device.allocator):  # type: ignore[attr-defined]
        return _directly
    if "zero_copy" in there:
        return _out_of_shared
    return _into_shared if "zero_copy" in here else _staged


def _host_view(place: Session, allocation: Allocation, nbytes: int) -> memoryview:
    shared: memoryview = place.device.allocator.host_view(allocation)  # type: ignore[attr-defined]
    return shared.cast("B")[:nbytes]


def _timed(device: DeviceId, kind: Literal["upload", "download", "transfer"], nbytes: int,
           copy: Callable[..., None], *args: Any, source: DeviceId | None = None) -> None:
    """Copy, and tell those who listen how long it took."""
    if not REGISTRY.observed:
        copy(*args)
        return
    start = time.perf_counter()
    copy(*args)
    event = CopyFinished(device, kind, nbytes, start, time.perf_counter() - start, source)
    REGISTRY.tell("pluggrad_copy_finished", event=event)
