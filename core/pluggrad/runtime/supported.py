"""Which dtypes a device declares, and what to do about one that it does not."""
from __future__ import annotations

from pluggrad import dtypes
from pluggrad.device.registry import REGISTRY
from pluggrad.dtypes import DType
from pluggrad.errors import UnsupportedDType
from pluggrad.target import DeviceId, Target


def require_dtype(device: DeviceId, dtype: DType, target: Target | None = None) -> None:
    """UnsupportedDType unless `device` declares `dtype`. Opens nothing."""
    declared = (target or REGISTRY.target(device)).capabilities.dtypes
    if dtype.name in declared:
        return
    near = _nearest(dtype, declared)
    advice = f"Cast it first: x.cast('{near.name}').to('{device}'). Or use" if near else "Use"
    raise UnsupportedDType(op=f"device {device}", expected=f"one of {', '.join(sorted(declared))}",
                           got=dtype.name, hint=f"{advice} another device")


def _nearest(dtype: DType, declared: frozenset[str]) -> DType | None:
    """The declared dtype of the same kind that keeps most: the next wider one, or else the widest."""
    alike = sorted((other for other in dtypes.ALL if other.kind == dtype.kind and other.name in declared),
                   key=lambda other: other.itemsize)
    wider = [other for other in alike if other.itemsize > dtype.itemsize]
    return next(iter([*wider, *reversed(alike)]), None)
