"""Rows of movement, joining and indexing methods."""

from __future__ import annotations

import numpy as np

from pluggrad import Tensor
from pluggrad.errors import AxisError, ShapeError, TensorIndexError
from tests.unit.api.rows import Row, uniform

SHAPE = (2, 3, 4)


def move(name, reference, call=None, shape=SHAPE, **fields):
    """A view or a copy in another arrangement: any dtype."""
    return Row(name, reference, (uniform(*shape),), call=call, ints="same", order=1, **fields)


def padded(mode):
    names = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    return move(
        "pad",
        lambda x: np.pad(x, ((0, 0), (1, 2), (2, 0)), mode=names[mode]),
        lambda x: x.pad((None, (1, 2), (2, 0)), mode=mode),
        error=lambda x: x.pad((1, 2, 3, 4, 5, 6, 7, 8)),
    )


def windows(x):
    return np.lib.stride_tricks.sliding_window_view(x, 2, 2)[:, :, ::2]


def written(x):
    y = x.clone()
    y[0] = 0.0
    return y


def zeroed(x):
    return np.concatenate([np.zeros_like(x[:1]), x[1:]])


ROWS = [
    move(
        "reshape",
        lambda x: x.reshape(4, 6),
        lambda x: x.reshape(4, -1),
        error=lambda x: x.reshape(5, 5),
        raises=ShapeError,
    ),
    move("view", lambda x: x.reshape(24), lambda x: x.view(24), error=lambda x: x.view(5), raises=ShapeError),
    move(
        "expand",
        lambda x: np.broadcast_to(x, (5, 2, 3, 4)),
        lambda x: x.expand(5, -1, -1, -1),
        error=lambda x: x.expand(2, 5, 4),
        raises=ShapeError,
    ),
    move(
        "broadcast_to",
        lambda x: np.broadcast_to(x, (5, 2, 3, 4)),
        lambda x: x.broadcast_to((5, 2, 3, 4)),
        error=lambda x: x.broadcast_to((2, 5, 4)),
        raises=ShapeError,
    ),
    move(
        "permute",
        lambda x: x.transpose(2, 0, 1),
        lambda x: x.permute(2, 0, 1),
        error=lambda x: x.permute(0, 0, 1),
        raises=(ShapeError, AxisError),
    ),
    move(
        "transpose",
        lambda x: x.swapaxes(0, 2),
        lambda x: x.transpose(0, 2),
        error=lambda x: x.transpose(0, 5),
        raises=AxisError,
    ),
    move(
        "swapaxes",
        lambda x: x.swapaxes(0, -1),
        lambda x: x.swapaxes(0, -1),
        error=lambda x: x.swapaxes(0, 5),
        raises=AxisError,
    ),
    move(
        "movedim",
        lambda x: np.moveaxis(x, 0, -1),
        lambda x: x.movedim(0, -1),
        error=lambda x: x.movedim(0, 5),
        raises=AxisError,
    ),
    move(
        "flip",
        lambda x: np.flip(x, (0, 2)),
        lambda x: x.flip(0, -1),
        error=lambda x: x.flip(7),
        raises=AxisError,
    ),
    move(
        "shrink",
        lambda x: x[:, 1:3, 0:2],
        lambda x: x.shrink((None, (1, 3), (0, 2))),
        error=lambda x: x.shrink(((0, 9), None, None)),
        raises=ShapeError,
    ),
    move(
        "shrink_to",
        lambda x: x[:, :2, :3],
        lambda x: x.shrink_to(None, 2, 3),
        error=lambda x: x.shrink_to(9, 2, 3),
        raises=ShapeError,
    ),
    *map(padded, ("constant", "reflect", "replicate", "circular")),
    move(
        "pad_to",
        lambda x: np.pad(x, ((0, 0), (0, 2), (0, 0))),
        lambda x: x.pad_to(None, 5, None),
        error=lambda x: x.pad_to(2, 5),
        raises=ShapeError,
    ),
    move("squeeze", np.squeeze, shape=(1, 3, 1), error=lambda x: x.squeeze(5), raises=AxisError),
    move(
        "unsqueeze",
        lambda x: x[:, None],
        lambda x: x.unsqueeze(1),
        error=lambda x: x.unsqueeze(9),
        raises=AxisError,
    ),
    move(
        "flatten",
        lambda x: x.reshape(2, 12),
        lambda x: x.flatten(1),
        error=lambda x: x.flatten(9),
        raises=AxisError,
    ),
    move(
        "unflatten",
        lambda x: x.reshape(2, 3, 2, 2),
        lambda x: x.unflatten(-1, (2, 2)),
        error=lambda x: x.unflatten(-1, (3, 2)),
        raises=ShapeError,
    ),
    move("ravel", np.ravel, raises=TypeError, says="no_such_argument"),
    move(
        "stack",
        lambda x: np.stack([x, x], 1),
        lambda x: x.stack(x, dim=1),
        error=lambda x: x.stack(x[0]),
        raises=ShapeError,
    ),
    move(
        "cat",
        lambda x: np.concatenate([x, x[:, :1]], 1),
        lambda x: x.cat(x[:, :1], dim=1),
        error=lambda x: x.cat(x[:, :1], dim=0),
        raises=ShapeError,
    ),
    move(
        "hstack",
        lambda x: np.hstack([x, x]),
        lambda x: Tensor.hstack(x, x),
        error=lambda x: Tensor.hstack(x, x[0]),
        raises=ShapeError,
    ),
    move(
        "vstack",
        lambda x: np.vstack([x, x]),
        lambda x: Tensor.vstack(x, x),
        error=lambda x: Tensor.vstack(x, x[..., 0]),
        raises=ShapeError,
    ),
    move(
        "split",
        lambda x: np.split(x, [1], 1),
        lambda x: x.split([1, 2], dim=1),
        error=lambda x: x.split([1, 1], dim=1),
        raises=ShapeError,
    ),
    move(
        "chunk",
        lambda x: np.array_split(x, 2, 2),
        lambda x: x.chunk(2, dim=2),
        error=lambda x: x.chunk(0),
        raises=ShapeError,
    ),
    move("unbind", lambda x: list(x), lambda x: x.unbind(), error=lambda x: x.unbind(9), raises=AxisError),
    move(
        "repeat",
        lambda x: np.tile(x, (2, 1, 1, 3)),
        lambda x: x.repeat(2, 1, 1, 3),
        error=lambda x: x.repeat(2),
        raises=ShapeError,
    ),
    move(
        "tile",
        lambda x: np.tile(x, (2, 1)),
        lambda x: x.tile(2, 1),
        error=lambda x: x.tile(-1, 1),
        raises=ShapeError,
    ),
    move(
        "repeat_interleave",
        lambda x: np.repeat(x, 2, 1),
        lambda x: x.repeat_interleave(2, 1),
        error=lambda x: x.repeat_interleave(-2),
        raises=ShapeError,
    ),
    move(
        "roll",
        lambda x: np.roll(x, (1, -2), (0, 2)),
        lambda x: x.roll((1, -2), (0, 2)),
        error=lambda x: x.roll(1, 9),
        raises=AxisError,
    ),
    move(
        "unfold", windows, lambda x: x.unfold(2, 2, 2), error=lambda x: x.unfold(2, 9, 1), raises=ShapeError
    ),
    move(
        "meshgrid",
        lambda x: np.meshgrid(x, x[:2], indexing="ij"),
        lambda x: x.meshgrid(x[:2]),
        shape=(3,),
        error=lambda x: x.meshgrid(x, indexing="ab"),
    ),
    move("diag", np.diag, shape=(3,), error=lambda x: x.reshape(3, 1, 1).diag(), raises=ShapeError),
    move(
        "diagonal",
        lambda x: np.diagonal(x, 1, 1, 2),
        lambda x: x.diagonal(1, 1, 2),
        error=lambda x: x.diagonal(0, 1, 1),
        raises=(ShapeError, AxisError),
    ),
    move("tril", np.tril, error=lambda x: x[0, 0].tril(), raises=ShapeError),
    move("triu", np.triu, error=lambda x: x[0, 0].triu(), raises=ShapeError),
    move(
        "rearrange",
        lambda x: x.transpose(2, 0, 1).reshape(4, 6),
        lambda x: x.rearrange("a b c -> c (a b)"),
        error=lambda x: x.rearrange("a b -> b a"),
    ),
    Row(
        "interpolate",
        lambda x: np.repeat(np.repeat(x, 2, -1), 2, -2),
        (uniform(1, 1, 3, 2),),
        call=lambda x: x.interpolate((6, 4), mode="nearest"),
        ints="same",
        error=lambda x: x.interpolate((6, 4), mode="psychic"),
    ),
    move(
        "narrow",
        lambda x: x[:, 1:3],
        lambda x: x.narrow(1, 1, 2),
        error=lambda x: x.narrow(1, 1, 9),
        raises=ShapeError,
    ),
    move(
        "select",
        lambda x: x[:, 1],
        lambda x: x.select(1, 1),
        error=lambda x: x.select(1, 9),
        raises=(ShapeError, TensorIndexError),
    ),
    move(
        "__getitem__",
        lambda x: x[1, ::-1, None, [0, 2]],
        lambda x: x[1, ::-1, None, [0, 2]],
        error=lambda x: x[9],
        raises=TensorIndexError,
        says="index",
    ),
    move(
        "__setitem__",
        zeroed,
        written,
        error=lambda x: x.__setitem__(9, 0),
        raises=TensorIndexError,
        says="index",
    ),
    Row(
        "T",
        np.transpose,
        (uniform(2, 3),),
        call=lambda x: x.T,
        ints="same",
        order=1,
        error=lambda x: x.T(),
        raises=TypeError,
        says="Tensor",
    ),
    Row(
        "mT",
        lambda x: x.swapaxes(-1, -2),
        (uniform(*SHAPE),),
        call=lambda x: x.mT,
        ints="same",
        order=1,
        error=lambda x: x[0, 0].mT,
        raises=ShapeError,
    ),
]
