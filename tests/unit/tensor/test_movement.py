"""Movement methods against NumPy, and their errors."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor

pytestmark = pytest.mark.usefixtures("device")

X = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
M = np.arange(15, dtype=np.int32).reshape(3, 5)

# (what Tensor does, what NumPy does) on X
CASES = {
    "reshape": (lambda t: t.reshape(4, -1), lambda a: a.reshape(4, -1)),
    "reshape tuple": (lambda t: t.reshape((6, 4)), lambda a: a.reshape(6, 4)),
    "reshape None": (lambda t: t.reshape(None, 12), lambda a: a.reshape(2, 12)),
    "view": (lambda t: t.view(24), lambda a: a.reshape(24)),
    "expand": (
        lambda t: t.reshape(2, 3, 1, 4).expand(-1, 3, 5, 4),
        lambda a: np.broadcast_to(a[:, :, None], (2, 3, 5, 4)),
    ),
    "broadcast_to": (lambda t: t.broadcast_to((3, 2, 3, 4)), lambda a: np.broadcast_to(a, (3, 2, 3, 4))),
    "permute": (lambda t: t.permute(2, 0, 1), lambda a: a.transpose(2, 0, 1)),
    "transpose": (lambda t: t.transpose(), lambda a: a.swapaxes(0, 1)),
    "transpose -1": (lambda t: t.transpose(-1, 0), lambda a: a.swapaxes(-1, 0)),
    "swapaxes": (lambda t: t.swapaxes(1, 2), lambda a: a.swapaxes(1, 2)),
    "T": (lambda t: t.T, lambda a: a.T),
    "mT": (lambda t: t.mT, lambda a: a.swapaxes(1, 2)),
    "movedim": (lambda t: t.movedim(0, -1), lambda a: np.moveaxis(a, 0, -1)),
    "movedim two": (lambda t: t.movedim((0, 1), (-1, 0)), lambda a: np.moveaxis(a, (0, 1), (-1, 0))),
    "flip": (lambda t: t.flip(0), lambda a: np.flip(a, 0)),
    "flip two": (lambda t: t.flip((0, -1)), lambda a: np.flip(a, (0, 2))),
    "shrink": (lambda t: t.shrink(((0, 1), None, (1, 3))), lambda a: a[:1, :, 1:3]),
    "shrink_to": (lambda t: t.shrink_to(1, None, 2), lambda a: a[:1, :, :2]),
    "narrow": (lambda t: t.narrow(-1, 1, 2), lambda a: a[..., 1:3]),
    "select": (lambda t: t.select(1, -1), lambda a: a[:, -1]),
    "squeeze": (lambda t: t[:1].squeeze(), lambda a: a[0]),
    "squeeze dim": (lambda t: t[:1].squeeze(1), lambda a: a[:1]),
    "unsqueeze": (lambda t: t.unsqueeze(-1), lambda a: a[..., None]),
    "flatten": (lambda t: t.flatten(1), lambda a: a.reshape(2, 12)),
    "ravel": (lambda t: t.ravel(), lambda a: a.ravel()),
    "unflatten": (lambda t: t.unflatten(2, (2, -1)), lambda a: a.reshape(2, 3, 2, 2)),
    "diagonal": (lambda t: t.diagonal(), lambda a: a.diagonal()),
    "diagonal 1": (lambda t: t.diagonal(1, -2, -1), lambda a: a.diagonal(1, -2, -1)),
    "diagonal -1": (lambda t: t.diagonal(-1, 1, 2), lambda a: a.diagonal(-1, 1, 2)),
    "diagonal out": (lambda t: t.diagonal(9), lambda a: a.diagonal(9)),
    "repeat": (lambda t: t.repeat(2, 1, 1, 3), lambda a: np.tile(a, (2, 1, 1, 3))),
    "tile": (lambda t: t.tile(2), lambda a: np.tile(a, 2)),
    "repeat_interleave": (lambda t: t.repeat_interleave(2, 1), lambda a: a.repeat(2, 1)),
    "repeat_interleave flat": (lambda t: t.repeat_interleave(3), lambda a: a.repeat(3)),
    "pad": (lambda t: t.pad((None, (1, 2), (0, 3))), lambda a: np.pad(a, ((0, 0), (1, 2), (0, 3)))),
    "pad flat": (
        lambda t: t.pad((1, 0, 2, 0), value=-5.0),
        lambda a: np.pad(a, ((0, 0), (2, 0), (1, 0)), constant_values=-5),
    ),
    "pad negative": (lambda t: t.pad((-1, 2)), lambda a: np.pad(a[..., 1:], ((0, 0), (0, 0), (0, 2)))),
    "pad_to": (lambda t: t.pad_to(3, None, 6), lambda a: np.pad(a, ((0, 1), (0, 0), (0, 2)))),
    "reflect": (lambda t: t.pad((2, 3), "reflect"), lambda a: np.pad(a, ((0, 0), (0, 0), (2, 3)), "reflect")),
    "replicate": (
        lambda t: t.pad((2, 0, 1, 5), "replicate"),
        lambda a: np.pad(a, ((0, 0), (1, 5), (2, 0)), "edge"),
    ),
    "circular": (lambda t: t.pad((4, 1), "circular"), lambda a: np.pad(a, ((0, 0), (0, 0), (4, 1)), "wrap")),
    "roll": (lambda t: t.roll(1, 0), lambda a: np.roll(a, 1, 0)),
    "roll two": (lambda t: t.roll((-1, 6), (1, 2)), lambda a: np.roll(a, (-1, 6), (1, 2))),
    "roll flat": (lambda t: t.roll(5), lambda a: np.roll(a, 5)),
    "cat": (lambda t: t.cat(t[:, :1], t, dim=1), lambda a: np.concatenate([a, a[:, :1], a], 1)),
    "cat empty": (lambda t: t.cat(t[:, :0], dim=1), lambda a: a),
    "cat list": (lambda t: Tensor.cat([t, t], dim=-1), lambda a: np.concatenate([a, a], -1)),
    "stack": (lambda t: Tensor.stack(t, t + 1, dim=1), lambda a: np.stack([a, a + 1], 1)),
    "hstack": (lambda t: t.hstack(t), lambda a: np.hstack([a, a])),
    "vstack": (lambda t: t[0, 0].vstack(t[1, 0]), lambda a: np.vstack([a[0, 0], a[1, 0]])),
    "tril": (lambda t: t.tril(-1), lambda a: np.tril(a, -1)),
    "triu": (lambda t: t.triu(1), lambda a: np.triu(a, 1)),
    "diag": (lambda t: t[0, 0].diag(), lambda a: np.diag(a[0, 0])),
    "rearrange": (
        lambda t: t.rearrange("a b (c d) -> (a d) c b", c=2),
        lambda a: a.reshape(2, 3, 2, 2).transpose(0, 3, 2, 1).reshape(4, 2, 3),
    ),
    "chain": (
        lambda t: t.permute(2, 1, 0).flip(1).reshape(6, 4)[::2].T,
        lambda a: np.flip(a.transpose(2, 1, 0), 1).reshape(6, 4)[::2].T,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_moves_as_numpy_does(name):
    move, reference = CASES[name]
    result = move(Tensor(X))
    np.testing.assert_array_equal(result.numpy(), reference(X))
    assert result.shape == reference(X).shape
    np.testing.assert_array_equal((result + 1).numpy(), reference(X) + 1)


def test_splitting():
    for parts, expected in (
        (Tensor(M).split(2, 1), np.array_split(M, [2, 4], 1)),
        (Tensor(M).split([1, 4], 1), np.split(M, [1], 1)),
        (Tensor(M).chunk(2, 1), [M[:, :3], M[:, 3:]]),
        (Tensor(M).unbind(0), list(M)),
    ):
        assert len(parts) == len(expected)
        for part, want in zip(parts, expected, strict=True):
            np.testing.assert_array_equal(part.numpy(), want)


@pytest.mark.parametrize("indexing", ["ij", "xy"])
def test_meshgrid(indexing):
    vectors = [1, 2, 3], [4, 5], [6]
    found = Tensor(vectors[0]).meshgrid(Tensor(vectors[1]), Tensor(6), indexing=indexing)
    for ours, expected in zip(found, np.meshgrid(*vectors, indexing=indexing), strict=True):
        np.testing.assert_array_equal(ours.numpy(), expected)
    assert [x.shape for x in Tensor(vectors[0]).meshgrid(indexing=indexing)] == [(3,)]


def test_joining_promotes():
    assert Tensor([1, 2]).cat(Tensor([0.5])).tolist() == [1, 2, 0.5]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda t: t.reshape(5, 5), ValueError, r"reshape: .*24.*\(5, 5\)"),
        (lambda t: t.reshape(-1, -1), ValueError, r"reshape.*one -1"),
        (lambda t: t.reshape(-2, 12), ValueError, "reshape"),
        (lambda t: t.expand(2, 3, 5), ValueError, r"expand: .*\(2, 3, 4\).*\(2, 3, 5\)"),
        (lambda t: t.expand(4), ValueError, "expand"),
        (lambda t: t.permute(0, 1), ValueError, "permute: expected each of 3 axes once"),
        (lambda t: t.permute(0, 1, 1), ValueError, "permute"),
        (lambda t: t.permute(0, 1, 5), IndexError, "permute"),
        (lambda t: t.flip(3), IndexError, r"flip: .*axis in \[-3, 2\].*got 3"),
        (lambda t: t.flip((0, 0)), ValueError, "flip: expected each axis once"),
        (lambda t: t.shrink(((0, 3), None, None)), ValueError, "shrink"),
        (lambda t: t.unsqueeze(5), IndexError, "unsqueeze"),
        (lambda t: t.cat(t[:, :, :2]), ValueError, r"cat: .*\(2, 3, 4\) and \(2, 3, 2\)"),
        (lambda t: t.stack(t[:1]), ValueError, "stack"),
        (lambda t: t.split([1, 2], 2), ValueError, "split: expected sizes that add up to 4"),
        (lambda t: t.pad((1, 1, 1, 1, 1, 1, 1, 1)), ValueError, "pad"),
        (lambda t: t.pad((4, 0), "reflect"), ValueError, r"pad \(reflect\)"),
        (lambda t: t.diagonal(0, 1, 1), ValueError, "diagonal"),
        (lambda t: t.rearrange("a b -> b a"), ValueError, "rearrange"),
        (lambda t: t[0, 0].meshgrid(t[0, 0], indexing="ji"), ValueError, "meshgrid"),
        (lambda t: t.meshgrid(t), ValueError, "meshgrid"),
        (lambda t: t.repeat(2), ValueError, "repeat"),
        (lambda t: t.cat([1, 2]), TypeError, "cat: expected tensors, got list"),
    ],
)
def test_errors_name_the_operation(call, error, text):
    with pytest.raises(error, match=text):
        call(Tensor(X))
