"""What a target says of a device."""

from __future__ import annotations

from types import SimpleNamespace

import pyopencl as cl
import pytest

from pluggrad.plugin_api import DeviceUnavailable
from pluggrad_opencl.target import capabilities, find, target_of

FACTS = {
    "name": "Acme One", "version": "OpenCL 1.2 Acme", "driver_version": "1.0",
    "opencl_c_version": "OpenCL C 1.2", "extensions": "", "type": cl.device_type.GPU,
    "double_fp_config": 0, "native_vector_width_float": 1,
    "max_clock_frequency": 1000, "max_compute_units": 8, "mem_base_addr_align": 2048,
    "global_mem_cache_size": 1 << 21, "max_parameter_size": 1024, "host_unified_memory": 0,
    "max_work_group_size": 1024, "max_work_item_sizes": [128, 128, 64], "local_mem_size": 32 << 10,
    "local_mem_type": cl.device_local_mem_type.LOCAL, "platform": SimpleNamespace(name="Acme", version="1"),
}


class Facts(SimpleNamespace):
    """A device that answers with what it is told."""

    __hash__ = object.__hash__


def device(**changes: object) -> Facts:
    return Facts(**(FACTS | changes))


def test_floats_are_computed_where_their_extension_is_and_doubles_are_stored_only_there():
    plain = capabilities(device())
    assert "float64" not in plain.dtypes
    assert {"float16", "bfloat16"} <= plain.dtypes
    assert not {"float16", "bfloat16", "float64"} & plain.arithmetic
    both = capabilities(device(extensions="cl_khr_fp64 cl_khr_fp16"))
    assert "float64" in both.dtypes
    assert {"float16", "float64"} <= both.arithmetic
    assert "bfloat16" not in both.arithmetic


def test_a_gpu_has_groups_and_local_memory_within_its_limits():
    found = capabilities(device())
    assert (found.max_group, found.subgroup_width, found.scratch_bytes) == (128, 32, 32 << 10)
    assert found.max_buffers == 96
    assert found.alignment == 256
    assert capabilities(device(local_mem_type=cl.device_local_mem_type.GLOBAL)).scratch_bytes == 0
    assert capabilities(device(wavefront_width_amd=64)).subgroup_width == 64


def test_a_processor_has_wide_vectors_and_no_groups(setting):
    processor = device(type=cl.device_type.CPU, native_vector_width_float=16)
    found = capabilities(processor)
    assert (found.max_group, found.scratch_bytes, found.vector_bytes) == (1, 0, 64)
    setting("SCHEDULE", "gpu")
    forced = capabilities(processor)
    assert forced.max_group > 1
    assert forced.subgroup_width > 1
    assert forced.scratch_bytes > 0
    setting("SCHEDULE", "tpu")
    with pytest.raises(DeviceUnavailable, match="expected auto, cpu or gpu, got 'tpu'"):
        capabilities(processor)


@pytest.mark.parametrize("change", [
    {"driver_version": "1.1"}, {"name": "Acme Two"}, {"opencl_c_version": "OpenCL C 2.0"},
    {"extensions": "cl_khr_fp16"}, {"platform": SimpleNamespace(name="Other", version="1")},
])
def test_what_changes_binaries_changes_the_architecture(change):
    assert target_of(device(**change)).arch != target_of(device()).arch
    assert target_of(device(extensions="cl_acme_toaster")).arch == target_of(device()).arch


def test_a_target_finds_its_device(backend):
    target = backend.target(0, "")
    assert target_of(find(target.arch)) == target
    with pytest.raises(DeviceUnavailable, match="a machine without it"):
        find(target.arch + "x")
