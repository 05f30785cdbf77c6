"""Targets are data: made from descriptions, for GPUs that are not here."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace

import pytest

from pluggrad.kernel.cost import Cost, estimate_us
from pluggrad.plugin_api import DeviceUnavailable, dtypes
from pluggrad_cuda.architecture import Architecture
from pluggrad_cuda.target import A100, H100, KNOWN, Properties, target_of

ATTRIBUTES = {
    "MULTIPROCESSOR_COUNT": 108, "MAX_SHARED_MEMORY_PER_MULTIPROCESSOR": 164 << 10,
    "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN": 163 << 10, "L2_CACHE_SIZE": 40 << 20,
    "CLOCK_RATE": 1_410_000, "MEMORY_CLOCK_RATE": 1_215_000, "GLOBAL_MEMORY_BUS_WIDTH": 5120}


@pytest.mark.parametrize(("capability", "name"), [(75, "sm_75"), (80, "sm_80"), (89, "sm_89"), (90, "sm_90a"),
                                                  (120, "sm_120a")])
def test_an_architecture_is_read_as_it_is_written(capability: int, name: str) -> None:
    architecture = Architecture.of(capability)
    assert str(architecture) == name
    assert Architecture.parse(name) == architecture


@pytest.mark.parametrize("text", ["", "90", "sm_", "sm_90b", "compute_90", "x86_64|znver4|"])
def test_other_text_is_no_architecture(text: str) -> None:
    with pytest.raises(DeviceUnavailable, match="expected an architecture: sm_80"):
        Architecture.parse(text)


def test_a_target_is_the_architecture_and_what_the_gpu_has() -> None:
    ampere, hopper = target_of(A100), target_of(H100)
    assert (ampere.arch, hopper.arch) == ("sm_80", "sm_90a")
    has = hopper.capabilities
    assert (has.cores, has.shared_cache_bytes, has.subgroup_width) == (132, 50 << 20, 32)
    assert has.dtypes == {dtype.name for dtype in dtypes.ALL}
    assert has.dtypes - has.arithmetic == {"float16", "bfloat16"}
    # single precision of the vendor's data sheets, in teraflops
    peaks = [round(t.capabilities.cores * t.capabilities.flops_per_core / 1e12) for t in (ampere, hopper)]
    assert peaks == [19, 59]
    assert pickle.loads(pickle.dumps(hopper)) == hopper
    assert [target_of(gpu).arch for gpu in KNOWN.values()] == list(KNOWN) == ["sm_80", "sm_90a"]


def test_what_changes_code_is_in_the_key() -> None:
    keys = {target_of(gpu).key() for gpu in (A100, H100, replace(A100, multiprocessors=56))}
    assert len(keys) == 3


def test_properties_are_asked_for_by_the_driver_s_names() -> None:
    gpu = Properties.asked("some GPU", 80, ATTRIBUTES.__getitem__)
    assert (gpu.multiprocessors, gpu.cache_bytes, gpu.l2_bytes) == (108, 164 << 10, 40 << 20)
    assert gpu.shared_bytes == 163 << 10
    assert gpu.clock_hz == pytest.approx(1.41e9)
    assert gpu.bytes_per_second == pytest.approx(1.555e12, rel=1e-3)


@pytest.mark.parametrize("untold", ["CLOCK_RATE", "MEMORY_CLOCK_RATE", "GLOBAL_MEMORY_BUS_WIDTH"])
@pytest.mark.parametrize(("capability", "clock", "rate"), [
    (75, 1.4e9, 3e11), (80, 1.41e9, 1.555e12), (89, 1.7e9, 6e11), (90, 1.755e9, 3.35e12), (121, 2.4e9, 1e12)])
def test_a_rate_that_the_driver_does_not_tell_is_a_usual_one(capability: int, clock: float, rate: float,
                                                             untold: str) -> None:
    gpu = Properties.asked("some GPU", capability, (ATTRIBUTES | {untold: 0}).__getitem__)
    told = Properties.asked("some GPU", capability, ATTRIBUTES.__getitem__)
    wanted = {"clock_hz": clock} if untold == "CLOCK_RATE" else {"bytes_per_second": rate}
    assert gpu == replace(told, **wanted)
    assert 0 < estimate_us(Cost(10**9, 10**9), target_of(gpu).capabilities) < 1e6


def test_code_is_made_without_a_driver() -> None:
    code = ("import sys\n"
            "from pluggrad_cuda.plugin import CudaBackend\n"
            "from pluggrad_cuda.target import H100, target_of\n"
            "toolchain = CudaBackend().toolchain(target_of(H100))\n"
            "toolchain.compile('extern \"C\" __global__ void k() {}')\n"
            "assert not {'pycuda', 'pluggrad_cuda.driver'} & set(sys.modules)\n")
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
