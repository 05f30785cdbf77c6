"""`pluggrad_renderers`: the cpu device's kernels through C, as the variant cpu@c."""
from __future__ import annotations

import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest

import pluggrad
from pluggrad import Tensor
from pluggrad.device.registry import REGISTRY
from pluggrad.errors import CompileError, DeviceUnavailable, KernelFault, MixedDevices, UnknownDevice
from pluggrad.plugin_api import CVectorRenderer, DeviceId, Signature
from pluggrad.runtime.sessions import session

HERE = "cpu@c"
CPU, VARIANT = DeviceId("cpu"), DeviceId("cpu", 0, "c")
pytestmark = [pytest.mark.device("cpu"),
              pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler: cc")]


@pytest.fixture(scope="module", autouse=True)
def cpu_c(installed):
    installed("pluggrad-cpu-c")


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


# ---- what it computes --------------------------------------------------------------------------------------
EXPRESSIONS = {
    "elementwise": lambda x: (x.exp() - x.sin()).tanh() * x.abs().sqrt(),
    "softmax": lambda x: x.softmax(1),
    "product": lambda x: (x @ x.T + 1).relu(),
    "halves": lambda x: (x.half() @ x.T.half()).float().sum(0),
    "bfloat16": lambda x: x.bfloat16().float() * 3,
    "integers": lambda x: ((x * 100).int() // 7 % 5).long().sum(1),
    "indices": lambda x: x[:, x.argmax(1)],
    "windows": lambda x: x.reshape(1, 1, 13, 17).conv2d(x[:3, :3].reshape(1, 1, 3, 3), padding=1),
    "random": lambda x: (x * 0 + 1).dropout(0.5),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_c_gives_what_the_interpreter_gives(name):
    def value(device: str) -> np.ndarray:
        Tensor.manual_seed(1)
        return EXPRESSIONS[name](Tensor(normal(13, 17), device=device)).numpy()

    np.testing.assert_allclose(value(HERE), value("ref"), rtol=2e-3 if name == "halves" else 1e-5, atol=1e-5)


def test_gradients_go_through_it():
    x = Tensor(normal(5, 4), device=HERE, requires_grad=True)
    (x.sigmoid() * x).sum().backward()
    s = 1 / (1 + np.exp(-normal(5, 4)))
    np.testing.assert_allclose(x.grad.numpy(), s + normal(5, 4) * s * (1 - s), rtol=1e-5)


# ---- a device of its own, in the same memory ---------------------------------------------------------------
def test_programs_see_a_device_of_its_own():
    here, there = Tensor(normal(3), device=HERE), Tensor(normal(3), device="cpu")
    assert str(here.device) == HERE
    with pytest.raises(MixedDevices, match=r"got cpu@c and cpu\. Move one of them: x\.to\('cpu@c'\)"):
        here + there
    np.testing.assert_array_equal((here + there.to(HERE)).numpy(), 2 * normal(3))


def test_the_device_is_opened_once_and_a_copy_is_a_copy():
    assert REGISTRY.open_device(VARIANT) is REGISTRY.open_device(CPU)
    here = Tensor(normal(3), device=HERE)
    there = here.to("cpu").realize()
    here.assign(here * 0).realize()
    np.testing.assert_array_equal(there.numpy(), normal(3))


def test_its_target_is_the_cpus_with_the_ops_that_the_renderer_knows():
    mine, theirs = REGISTRY.target(VARIANT).capabilities, REGISTRY.target(CPU).capabilities
    assert mine == replace(theirs, ops=CVectorRenderer.ops)


def test_binaries_and_plans_are_kept_apart():
    assert session(VARIANT).context != session(CPU).context
    assert REGISTRY.toolchain(VARIANT).cache_key != REGISTRY.toolchain(CPU).cache_key


COUNT = """
from pluggrad import Tensor
from pluggrad.runtime import GlobalCounters
for device in ("cpu", "cpu@c"):
    GlobalCounters.reset()
    value = (Tensor([1.0, 2.0], device=device).realize() * 3).tolist()
    print(device, value, GlobalCounters.compiled, GlobalCounters.plan_disk_hits)
"""


def test_each_finds_its_own_binaries_in_a_second_process(run):
    first, second = [run("-c", COUNT, extensions=("pluggrad-cpu-c",)) for _ in range(2)]
    assert (first.stdout, first.stderr) == ("cpu [3.0, 6.0] 1 0\ncpu@c [3.0, 6.0] 1 0\n", "")
    assert second.stdout == "cpu [3.0, 6.0] 0 1\ncpu@c [3.0, 6.0] 0 1\n"


def test_a_toolchain_can_be_sent_to_another_process():
    toolchain = REGISTRY.toolchain(VARIANT)
    source = "void f(void **args, const void *values, long lo, long hi) {}"
    assert pickle.loads(pickle.dumps(toolchain)).compile(source) == toolchain.compile(source)


# ---- what goes wrong ---------------------------------------------------------------------------------------
def test_without_a_compiler_it_is_unavailable_and_says_what_to_do(run):
    code = "from pluggrad import Device\nDevice['cpu@c']"
    result = run("-c", code, extensions=("pluggrad-cpu-c",), CC="a-compiler-that-nobody-has")
    assert DeviceUnavailable.__name__ in result.stderr
    assert ("device 'cpu@c' (pluggrad-cpu-c 1.0) is unavailable: there is no C compiler: "
            "'a-compiler-that-nobody-has' is not on the PATH    try: apt install gcc") in result.stderr


def test_the_list_of_devices_shows_it(run):
    working = run("-m", "pluggrad", "devices", "-v", extensions=("pluggrad-cpu-c",))
    assert "cpu@c  ready  (pluggrad-cpu-c 1.0)" in working.stdout
    missing = run("-m", "pluggrad", "devices", "-v", extensions=("pluggrad-cpu-c",), CC="nobody-has-it")
    assert "is unavailable: there is no C compiler: 'nobody-has-it'" in missing.stdout
    assert missing.returncode == 0


def test_another_variant_is_refused_with_the_known_one():
    with pytest.raises(UnknownDevice, match=r"no variant 'd'\. Known: cpu@c \(pluggrad-cpu-c 1\.0\)\."):
        pluggrad.Device["cpu@d"]


def test_what_the_compiler_refuses_carries_its_words():
    with pytest.raises(CompileError, match="cc refused a kernel") as caught:
        REGISTRY.toolchain(VARIANT).compile("no C at all")
    assert caught.value.source == "no C at all"
    assert "error" in caught.value.log


def test_a_function_that_the_process_lacks_is_named(capfd):
    binary = REGISTRY.toolchain(VARIANT).compile(
        "void nobodys_function(void); void f(void) { nobodys_function(); }")
    with pytest.raises(KernelFault, match="kernel 'f' cannot be linked: "):
        REGISTRY.open_device(VARIANT).load(binary, Signature("f", (), (), 1))
    assert "nobodys_function" in capfd.readouterr().err


def test_it_keeps_the_contract(run):
    result = run("-m", "pluggrad", "conformance", HERE, "--level", "L0", extensions=("pluggrad-cpu-c",))
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_variant_can_be_the_default():
    with pluggrad.device(HERE):
        assert str((Tensor([1.0]) + 1).device) == HERE
