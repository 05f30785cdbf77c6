"""Memory shared with NumPy and by DLPack: who sees which writes, and how long memory lives."""

from __future__ import annotations

import array
import copy
import gc
import multiprocessing
import pickle
import sys
import weakref

import numpy as np
import pytest

import pluggrad
from pluggrad import Tensor, dtypes, jit, nn
from pluggrad.errors import DTypeError, ExportError, JitError
from pluggrad.tensor import dlpack

pytestmark = pytest.mark.usefixtures("device")

NUMPY_2 = np.lib.NumpyVersion(np.__version__) >= "2.1.0"
VERSIONS = (None, (1, 0)) if NUMPY_2 else (None,)


@pytest.fixture
def in_place(device):
    """Whether the host sees the memory of the device."""
    return Tensor([1.0]).__dlpack_device__() == dlpack.CPU


def address(values) -> int:
    return np.asarray(values).__array_interface__["data"][0]


def used(device) -> int:
    gc.collect()
    return pluggrad.memory_stats()[device]["used"]


# ---- NumPy -----------------------------------------------------------------------------------------------


def test_asarray_is_the_memory_itself_and_read_only(in_place):
    x = Tensor([1.0, 2.0]).realize()
    seen = np.asarray(x)
    assert not seen.flags.writeable
    assert (address(x) == address(seen)) == in_place
    with pytest.raises(ValueError, match="read-only"):
        seen[0] = 5


@pytest.mark.parametrize("write", [lambda x: x.__iadd__(1), lambda x: x.assign([7, 8, 9]),
                                   lambda x: x.__setitem__(slice(0, 2), 5)], ids=["+=", "assign", "setitem"])
def test_later_writes_do_not_reach_what_was_given_away(write):
    x = Tensor([1.0, 2.0, 3.0]).realize()
    seen, view, held = np.asarray(x), np.asarray(x[::2]), x.data()
    write(x)
    x.realize()
    assert (seen.tolist(), view.tolist(), held.tolist()) == ([1, 2, 3], [1, 3], [1, 2, 3])
    assert x.tolist() == np.asarray(x).tolist() != [1, 2, 3]


def test_a_replay_does_not_write_over_what_was_given_away():
    weights = Tensor([1.0, 2.0]).realize()

    @jit
    def step(x):
        weights.assign(weights + x)
        return weights.sum()

    for _ in range(3):
        step(Tensor([1.0, 1.0]))
    seen = np.asarray(weights)
    before = seen.tolist()
    for _ in range(2):
        step(Tensor([1.0, 1.0]))
    assert seen.tolist() == before == [4, 5]
    assert weights.tolist() == [6, 7]


def test_an_optimizer_does_not_write_over_what_was_given_away():
    weights = Tensor([1.0, 2.0], requires_grad=True)
    optimizer = nn.optim.SGD([weights], lr=0.5)
    seen = np.asarray(weights)
    weights.sum().backward()
    optimizer.step()
    assert seen.tolist() == [1, 2]
    assert weights.tolist() == [0.5, 1.5]


def test_memory_is_not_used_again_while_somebody_looks(device, in_place):
    x = Tensor.full((1000,), 3.0).contiguous().realize()
    seen = np.asarray(x)
    held = used(device)
    del x
    assert (used(device) == held) == in_place
    others = [(Tensor.zeros(1000) + i).contiguous().realize() for i in range(3)]
    assert (seen == 3).all()
    del seen, others
    assert used(device) <= held


@pytest.mark.parametrize(("view", "strided"), [
    (lambda x: x.T, True), (lambda x: x[1, ::2], True), (lambda x: x.flip(0), True),
    (lambda x: x[:, 1:2], True),
    (lambda x: x.reshape(4, 3), True), (lambda x: x[0].expand(2, 4), True),
    (lambda x: x.T.reshape(12), False),
    (lambda x: x.pad(((1, 0), (0, 0))), False), (lambda x: x[3:], True), (lambda x: x.detach()[1], True),
    (lambda x: x[1, 2], True),
])
def test_views_are_strides_where_strides_describe_them(view, strided, in_place):
    x = Tensor.arange(12).reshape(3, 4).contiguous().realize()
    taken = view(x)
    seen = np.asarray(taken)
    assert seen.tolist() == taken.tolist() == np.from_dlpack(taken).tolist()
    shares = np.may_share_memory(seen, np.asarray(x))
    assert shares == (strided and in_place and seen.size > 0)


def test_asarray_with_a_dtype_or_a_copy(in_place):
    x = Tensor([1.5, 2.5])
    assert np.asarray(x, dtype=np.float32).dtype == np.float32
    assert np.asarray(x, np.int64).tolist() == [1, 2]
    assert np.array(x).flags.writeable
    assert x.numpy().flags.writeable
    assert address(x.numpy()) != address(x)
    assert x.__array__(copy=True).flags.writeable
    with pytest.raises(ValueError, match=r"copy=False for float32 on \w+ as .*int64"):
        x.__array__(np.int64, copy=False)
    half = Tensor(1.5, dtype="bfloat16")
    assert isinstance(half.numpy(), np.ndarray)
    assert np.asarray(half).dtype == np.float32
    with pytest.raises(ValueError, match="copy=False for bfloat16"):
        half.__array__(copy=False)
    if in_place:
        assert x.__array__(copy=False).tolist() == [1.5, 2.5]


def test_operators_between_arrays_and_tensors_give_tensors():
    x, ones = Tensor([1.0, 2.0]), np.ones(2, np.float32)
    for result in (ones + x, ones - x, ones * x, ones / x, ones @ x, ones ** x, ones < x, ones == x,
                   np.float32(2) * x, x * ones):
        assert isinstance(result, Tensor)
    for refused in (lambda: np.sin(x), lambda: ones.__iadd__(x)):  # an array stays an array
        with pytest.raises(TypeError, match="does not support ufuncs"):
            refused()


NESTED = {
    "a tensor and a list": (lambda: [Tensor([1, 2], dtype="int16"), [3, 4]], "int16", [[1, 2], [3, 4]]),
    "a half and a number": (lambda: [Tensor(1.5, dtype="bfloat16"), 2], "bfloat16", [1.5, 2]),
    "an integer and a float": (lambda: [Tensor(1), 2.5], "float32", [1, 2.5]),
    "a tensor and an array": (lambda: (Tensor([1.0], dtype="float64"), np.ones(1)), "float64", [[1], [1]]),
    "bytes": (lambda: [b"ab", b"cd"], "uint8", [[97, 98], [99, 100]]),
    "a bytearray": (lambda: bytearray(b"a"), "uint8", [97]),
    "a memoryview": (lambda: memoryview(b"ab"), "uint8", [97, 98]),
    "an array of the standard library": (lambda: array.array("d", [1, 2]), "float64", [1, 2]),
    "a list of those": (lambda: [array.array("h", [1, 2])], "int16", [[1, 2]]),
    "a strided array": (lambda: np.arange(6, dtype="int8").reshape(2, 3)[:, ::2], "int8", [[0, 2], [3, 5]]),
    "scalars of NumPy": (lambda: [np.float32(1), np.ones((), np.float32)], "float32", [1, 1]),
    "nothing": (list, "float32", []),
}


@pytest.mark.parametrize("case", NESTED)
def test_tensors_from_any_nesting(case):
    make, dtype, values = NESTED[case]
    made = Tensor(make())
    assert made.dtype.name == dtype
    assert made.tolist() == values


def test_tensors_of_unequal_lengths_do_not_nest():
    with pytest.raises(ValueError, match="equal lengths"):
        Tensor([Tensor([1, 2]), [3]])


def test_buffers(in_place):
    x = Tensor([[1, 2], [3, 4]], dtype="int16").realize()
    assert x.data().readonly
    assert (x.data().format, x.data().shape) == ("h", (2, 2))
    assert x.T.data().tolist() == [[1, 3], [2, 4]]
    if in_place:
        assert np.asarray(x.data()).__array_interface__["data"][0] == address(x)
        assert x.__buffer__(0).tolist() == [[1, 2], [3, 4]]
        assert x.T.__buffer__(0).strides == (2, 4)
    with pytest.raises(BufferError, match="read-only view"):
        x.__buffer__(1)
    with pytest.raises(BufferError, match="got bfloat16"):
        Tensor([1.0], dtype="bfloat16").__buffer__(0)
    if sys.version_info >= (3, 12) and in_place:
        assert memoryview(x).tolist() == [[1, 2], [3, 4]]


# ---- DLPack ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dtype", [dtype.name for dtype in dtypes.ALL])
def test_every_dtype_there_and_back(dtype, version):
    x = Tensor([[0, 1, 2], [3, 4, 5]]).cast(dtype)
    back = Tensor.from_dlpack(x.__dlpack__(max_version=version, dl_device=dlpack.CPU))
    assert back.dtype is x.dtype
    assert back.tolist() == x.tolist()


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 1)])
def test_few_elements_there_and_back(shape):
    x = Tensor.ones(*shape, dtype="int32")
    assert Tensor.from_dlpack(x).shape == shape
    if x.__dlpack_device__() == dlpack.CPU:
        assert np.from_dlpack(x).shape == shape


def test_numpy_gets_the_memory_itself(in_place):
    if not in_place:
        with pytest.raises(BufferError, match=r"Move them: x.to\('host'\)"):
            Tensor([1.0]).__dlpack__()
        return
    x = Tensor([1.0, 2.0]).realize()
    seen = np.from_dlpack(x)
    assert (seen.__array_interface__["data"][0] == address(x)) == NUMPY_2
    assert not seen.flags.writeable
    if NUMPY_2:
        np.from_dlpack(x, copy=True)[0] = 9
    x += 1
    assert x.tolist() == [2, 3]
    assert seen.tolist() == [1, 2]


def test_who_cannot_be_told_read_only_gets_a_copy(in_place):
    x = Tensor([1.0, 2.0])
    capsule = x.__dlpack__(dl_device=dlpack.CPU)
    assert '"dltensor"' in repr(capsule)
    Tensor.from_dlpack(capsule)
    with pytest.raises(BufferError, match="max_version=None"):
        x.__dlpack__(dl_device=dlpack.CPU, copy=False)
    if NUMPY_2:
        assert '"dltensor_versioned"' in repr(x.__dlpack__(max_version=(1, 2), dl_device=dlpack.CPU))


@pytest.mark.parametrize("request_", [{"stream": 1}, {"dl_device": (2, 0)}], ids=repr)
def test_requests_that_cannot_be_met(request_):
    with pytest.raises(ExportError, match="__dlpack__: expected stream=None"):
        Tensor([1.0]).__dlpack__(**request_)


class Exporter:
    """An array behind `__dlpack__`, of whom we know when it is let go."""

    def __init__(self, values, versioned=True, device=dlpack.CPU):
        self.values, self.versioned, self.device = values, versioned and NUMPY_2, device

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **request):
        if request and not self.versioned:
            raise TypeError("unexpected keyword argument")
        if self.device != dlpack.CPU and request.get("dl_device") != dlpack.CPU:
            raise BufferError("not the memory of the host")
        return self.values.__dlpack__(**{name: request[name] for name in request if name == "max_version"})


class Watched(np.ndarray):
    """An array with weak references."""


@pytest.mark.parametrize("versioned", [True, False])
def test_an_import_shares_and_lets_go_once(versioned, device):
    aligned = np.zeros(64 + 16, np.float32)
    start = -aligned.ctypes.data % 64 // 4
    values = aligned[start:start + 64].view(Watched)
    gone = weakref.ref(values)
    before = used(device) if device in pluggrad.memory_stats() else 0
    x = Tensor.from_dlpack(Exporter(values, versioned))
    y = x + 1
    shares = Tensor([1.0]).__dlpack_device__() == dlpack.CPU
    assert used(device) == before or not shares
    values[0] = 5
    assert (x[0].item() == 5) == shares
    x += 1
    assert x[0].item() == (6 if shares else 1)
    assert values[0] == 5
    del values, aligned
    gc.collect()
    assert y.numpy().shape == (64,)
    del x, y
    gc.collect()
    assert gone() is None


def test_what_cannot_be_shared_is_copied_unless_that_is_forbidden():
    values = np.arange(12.0).reshape(3, 4)
    assert Tensor.from_dlpack(values.T).tolist() == values.T.tolist()
    copied = Tensor.from_dlpack(values, copy=True)
    values[0, 0] = 9
    assert copied[0, 0].item() == 0
    with pytest.raises(BufferError, match="row-major, aligned memory"):
        Tensor.from_dlpack(values.T, copy=False)
    assert Tensor.from_dlpack(np.zeros((0, 2)), copy=False).shape == (0, 2)


def test_an_exporter_elsewhere_is_asked_to_copy_to_the_host():
    far = Exporter(np.arange(3), device=(2, 0))
    if NUMPY_2:
        assert Tensor.from_dlpack(far).tolist() == [0, 1, 2]
        assert Tensor(far).tolist() == [0, 1, 2]
    with pytest.raises(BufferError, match="device 2 of DLPack"):
        Tensor.from_dlpack(Exporter(np.arange(3), versioned=False, device=(2, 0)))


def test_what_is_no_capsule_is_refused():
    with pytest.raises(DTypeError, match="from_dlpack: expected an object with __dlpack__"):
        Tensor.from_dlpack([1, 2])
    capsule = np.arange(3).__dlpack__()
    Tensor.from_dlpack(capsule)
    with pytest.raises(DTypeError, match="nobody has taken"):
        Tensor.from_dlpack(capsule)
    with pytest.raises(TypeError, match="complex"):
        Tensor.from_dlpack(np.ones(2, complex))


def test_capsules_that_nobody_takes_let_go(device, in_place):
    x = Tensor.ones(1000).contiguous().realize()
    held = used(device)
    for version in VERSIONS:
        capsule = x.__dlpack__(max_version=version, dl_device=dlpack.CPU)
        assert used(device) == held
        del capsule
    capsule = x.__dlpack__(max_version=VERSIONS[-1], dl_device=dlpack.CPU)
    del x
    shared = in_place and NUMPY_2
    assert (used(device) == held) == shared
    del capsule
    assert used(device) < held


def test_the_consumer_keeps_the_memory(device, in_place):
    if not in_place:
        return
    x = Tensor.full((1000,), 2.0).contiguous().realize()
    held = used(device)
    seen = np.from_dlpack(x)
    del x
    others = [(Tensor.zeros(1000) + i).contiguous().realize() for i in range(3)]
    assert (seen == 2).all()
    del seen, others
    assert used(device) < held


def test_nothing_is_shared_during_a_capture():
    @jit
    def reads(x):
        return x + np.asarray(x).sum()

    with pytest.raises(JitError, match="no value to be read"):
        reads(Tensor([1.0]))


# ---- copies of objects -----------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "bool", "uint64"])
def test_pickles(protocol, dtype, device):
    x = Tensor([[0, 1], [2, 3]]).cast(dtype)
    back = pickle.loads(pickle.dumps(x, protocol))
    assert (back.dtype, back.shape, back.device) == (x.dtype, x.shape, device)
    assert back.tolist() == x.tolist()


def test_large_values_are_pickled_out_of_band():
    x = Tensor.arange(10_000).contiguous()
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(x, 5, buffer_callback=buffers.append)
    assert len(text) < 1000
    assert [buffer.raw().nbytes for buffer in buffers] == [40_000]
    assert pickle.loads(text, buffers=buffers).tolist() == x.tolist()


def test_pickles_keep_what_is_trained():
    for flag in (True, False, None):
        back = pickle.loads(pickle.dumps(Tensor([1.0], requires_grad=flag)))
        assert back.requires_grad == (flag is True)
    view = Tensor.arange(6).reshape(2, 3).T
    assert pickle.loads(pickle.dumps(view)).tolist() == view.tolist()


class Tied(nn.Module):
    """Two names for one weight."""

    def __init__(self):
        self.first = nn.Linear(2, 2)
        self.second = nn.Linear(2, 2)
        self.second.weight = self.first.weight


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))],
                         ids=["deepcopy", "pickle"])
def test_tied_weights_and_optimizers_keep_their_identity(duplicate):
    model = Tied()
    optimizer = nn.optim.SGD(model, lr=1.0, momentum=0.9)
    before = model.first.weight.tolist()
    twin, steps = duplicate((model, optimizer))
    assert twin.first.weight is twin.second.weight is not model.first.weight
    twin.first(Tensor.ones(1, 2)).sum().backward()
    steps.step()
    assert model.first.weight.tolist() == before
    assert np.allclose(twin.first.weight.numpy(), np.array(before) - 1)


def test_shallow_and_deep_copies():
    x = Tensor([1.0, 2.0], requires_grad=True)
    (x * 3).sum().backward()
    deep, shallow = copy.deepcopy(x), copy.copy(x)
    assert deep.requires_grad
    assert shallow.requires_grad
    assert deep.grad.tolist() == [3, 3]
    assert deep.grad is not x.grad
    deep += 1
    shallow *= 5
    assert (x.tolist(), deep.tolist(), shallow.tolist()) == ([1, 2], [2, 3], [5, 10])
    both = copy.deepcopy([x, x])
    assert both[0] is both[1]


def _doubled(x):
    return x * 2


def test_tensors_travel_to_spawned_processes(device):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_doubled, (Tensor([1.0, 2.0]),)).tolist() == [2, 4]
