"""What an OpenCL device can do, as data: asked of the driver, and for a CPU shaped like the cpu device's."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import pyopencl as cl

from pluggrad.plugin_api import Capabilities, DeviceUnavailable, Target, dtypes
from pluggrad_opencl import driver, settings
from pluggrad_opencl.render import OpenCLRenderer

FEATURES: Final = frozenset({"graph", "async", "events", "peer"})
_HALF: Final = "cl_khr_fp16"
_DOUBLE: Final = "cl_khr_fp64"
_SUBGROUPS: Final = "cl_khr_subgroups"
_EXTENSIONS: Final = (_HALF, _DOUBLE, _SUBGROUPS)  # those that change what is rendered or compiled

_POINTER: Final = 8
_VALUE_BYTES: Final = 256  # of a kernel's parameters, kept free for run-time values
_MAX_GROUP: Final = 256  # work items of a group: more leave too few registers for each
_GPU_SUBGROUP: Final = 32
_GPU_VECTOR_BYTES: Final = 16  # float4: the widest load of one work item
_GPU_REGISTERS: Final = 64
_CACHE_PER_CORE: Final = 1 << 20  # OpenCL tells of one level of cache only: the last
_ALIGNMENT: Final = 64
# submitting a kernel and waking the driver's threads, seen with PoCL
_LAUNCH_US: Final = 8.0
_TEAM_US: Final = 20.0


@dataclass(frozen=True, slots=True)
class Identity:
    """What a binary depends on; its text is the `arch` of a target."""

    platform: str
    device: str
    version: str
    driver_version: str
    language: str
    processor: str
    extensions: str

    @classmethod
    def of(cls, device: cl.Device) -> Identity:
        """The identity of a device."""
        present = set(device.extensions.split())
        texts = (device.platform.name, device.name, device.version, device.driver_version,
                 device.opencl_c_version, driver.processor_name(device),
                 " ".join(name for name in _EXTENSIONS if name in present))
        return cls(*(" ".join(text.replace("|", " ").split()) for text in texts))

    def __str__(self) -> str:
        return "|".join((self.platform, self.device, self.version, self.driver_version, self.language,
                         self.processor, self.extensions))


def find(arch: str) -> cl.Device:
    """A device that code for `arch` runs on; DeviceUnavailable if there is none here."""
    for device in driver.devices():
        if str(Identity.of(device)) == arch:
            return device
    raise DeviceUnavailable(op="opencl", expected=f"the device {arch}", got="a machine without it",
                            hint="A driver compiles for its own devices only")


def target_of(device: cl.Device) -> Target:
    """What code is made for on a device, under the settings."""
    return Target(str(Identity.of(device)), capabilities(device))


def capabilities(device: cl.Device) -> Capabilities:
    """The capabilities of a device, shaped for the schedule that the settings ask for."""
    common = _common(device)
    shaped = {"cpu": _for_cpu, "gpu": _for_gpu}
    wanted = settings.SCHEDULE.value
    if wanted == "auto":
        wanted = "cpu" if driver.is_cpu(device) else "gpu"
    if wanted not in shaped:
        raise DeviceUnavailable(op=settings.SCHEDULE.variable, expected="auto, cpu or gpu", got=repr(wanted))
    return shaped[wanted](device, common)


def _common(device: cl.Device) -> Capabilities:
    present = set(device.extensions.split())
    stored = {d.name for d in dtypes.ALL}
    if not (_DOUBLE in present or device.double_fp_config):
        stored.discard("float64")
    arithmetic = stored - {"bfloat16"} - (set() if _HALF in present else {"float16"})
    lanes = max(1, device.native_vector_width_float)
    hertz = 1e6 * max(1, device.max_clock_frequency)
    return Capabilities(
        dtypes=frozenset(stored), arithmetic=frozenset(arithmetic), ops=OpenCLRenderer.ops,
        cores=device.max_compute_units, alignment=max(_ALIGNMENT, device.mem_base_addr_align // 8),
        cache_bytes=_CACHE_PER_CORE, shared_cache_bytes=max(_CACHE_PER_CORE, device.global_mem_cache_size),
        max_buffers=max(1, (device.max_parameter_size - _VALUE_BYTES) // _POINTER),
        unified_memory=bool(device.host_unified_memory),
        launch_cost_us=_LAUNCH_US, team_cost_us=_TEAM_US, flops_per_core=2 * lanes * hertz,
        features=FEATURES)


def _for_cpu(device: cl.Device, common: Capabilities) -> Capabilities:
    """One work item a task, in wide vectors: work items would be a loop, and local memory plain memory."""
    vector_bytes = 4 * max(1, device.native_vector_width_float)
    return replace(common, vector_bytes=vector_bytes, vector_registers=32 if vector_bytes >= 64 else 16,
                   max_group=1)


def _for_gpu(device: cl.Device, common: Capabilities) -> Capabilities:
    """Groups of work items, short vectors, local memory."""
    fast = device.local_mem_type == cl.device_local_mem_type.LOCAL or driver.is_cpu(device)
    return replace(common, vector_bytes=_GPU_VECTOR_BYTES, vector_registers=_GPU_REGISTERS,
                   max_group=min(_MAX_GROUP, device.max_work_group_size, device.max_work_item_sizes[0]),
                   subgroup_width=_subgroup_width(device),
                   scratch_bytes=device.local_mem_size if fast else 0)


def _subgroup_width(device: cl.Device) -> int:
    """Work items that run in step: what the vendor's extension says, else what is common."""
    for query in ("warp_size_nv", "wavefront_width_amd"):
        try:
            return int(getattr(device, query))
        except (cl.Error, AttributeError):
            continue
    return _GPU_SUBGROUP
