"""CIFAR-10 in both of its forms, and pickles that are something else."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest

from pluggrad import config
from pluggrad.data import cifar, cifar10
from pluggrad.errors import FileFormatError
from pluggrad.nn import datasets

PARTS = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
GENERATOR = np.random.default_rng(0)
IMAGES = [GENERATOR.integers(0, 256, (4, 3072), dtype=np.uint8) for _ in PARTS]
LABELS = [GENERATOR.integers(0, 10, 4, dtype=np.uint8) for _ in PARTS]


def binary(images: np.ndarray, labels: np.ndarray) -> bytes:
    return np.concatenate([labels[:, None], images], axis=1).tobytes()


def text(value: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(value)) + value  # BINSTRING, which Python 2 wrote


def pickled(images: np.ndarray, labels: np.ndarray) -> bytes:
    """What Python 2 wrote: a dictionary with text of its kind, an array by its parts, and a list."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + text(b"b") + b"tR"
        b"(K\x01K" + bytes([len(images)]) + b"M" + struct.pack("<H", 3072) + b"\x86"
        b"cnumpy\ndtype\n(" + text(b"u1") + b"K\x00K\x01tR(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89" + text(images.tobytes()) + b"tb"
    )
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels.tolist()) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + listed + b"u."


def by_python_3(images: np.ndarray, labels: np.ndarray) -> bytes:
    return pickle.dumps({b"data": images, b"labels": labels.tolist()}, protocol=4)


FORMS = {
    "binary": ("cifar-10-batches-bin", ".bin", "cifar-10-binary.tar.gz", binary),
    "pickled": ("cifar-10-batches-py", "", "cifar-10-python.tar.gz", pickled),
    "by Python 3": ("cifar-10-batches-py", "", "cifar-10-python.tar.gz", by_python_3),
}


def write(folder, form: str) -> None:
    _, suffix, _, content = FORMS[form]
    folder.mkdir(exist_ok=True)
    for part, images, labels in zip(PARTS, IMAGES, LABELS):
        (folder / (part + suffix)).write_bytes(content(images, labels))


def write_archive(path, form: str) -> None:
    """As its author packed it, with a file beside the batches."""
    name, suffix, _, content = FORMS[form]
    files = {f"{name}/{part}{suffix}": content(images, labels)
             for part, images, labels in zip(PARTS, IMAGES, LABELS)}
    with tarfile.open(path, "w:gz") as tar:
        for member, data in {f"{name}/readme.html": b"<html>", **files}.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def check(split) -> None:
    assert split.X_train.shape == (20, 3, 32, 32)
    assert split.X_train.dtype.name, split.Y_train.dtype.name == ("float32", "int32")
    expected = np.concatenate(IMAGES[:5]).reshape(-1, 3, 32, 32).astype(np.float32) / 255
    np.testing.assert_array_equal(split.X_train.numpy(), expected)
    np.testing.assert_array_equal(split.Y_train.numpy(), np.concatenate(LABELS[:5]))
    np.testing.assert_array_equal(split.X_test.numpy(), IMAGES[5].reshape(-1, 3, 32, 32) / np.float32(255))
    np.testing.assert_array_equal(split.Y_test.numpy(), LABELS[5])


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_or_the_one_around_it(tmp_path, form):
    write(tmp_path / FORMS[form][0], form)
    check(cifar10(tmp_path))
    check(cifar10(str(tmp_path / FORMS[form][0])))


@pytest.mark.parametrize("form", ["binary", "pickled"])
def test_an_archive(tmp_path, form):
    write_archive(tmp_path / FORMS[form][2], form)
    check(cifar10(tmp_path))
    assert len(list(tmp_path.iterdir())) == 1


def test_without_a_folder_the_archive_is_downloaded(tmp_path, monkeypatch, fresh_cache):
    archive = tmp_path / "cifar-10-binary.tar.gz"
    write_archive(archive, "binary")
    monkeypatch.setattr(cifar, "_MIRRORS", (tmp_path.as_uri() + "/",))
    monkeypatch.setattr(cifar, "_SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    config.reload()
    try:
        check(cifar10())
        archive.unlink()
        check(cifar10())
    finally:
        config.reload()


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cifar-10-batches-bin/, cifar-10-binary\.tar\.gz, .*-py"):
        cifar10(tmp_path)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    "payload",
    [Malicious(), {b"data": Malicious(), b"labels": []}, {b"data": np.array([Malicious()]), b"labels": [0]}],
)
def test_a_malicious_pickle_is_refused_and_nothing_is_executed(tmp_path, monkeypatch, payload):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "pickled")
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps(payload, protocol=4))
    with pytest.raises(FileFormatError, match=r"data_batch_3.*mkdir, which is not loaded"):
        cifar10(tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("form", "content", "message"),
    [
        ("binary", b"", "records of 3073 bytes, got 0"),
        ("binary", bytes(3072), "records of 3073 bytes, got 3,072"),
        ("binary", binary(IMAGES[0], LABELS[0] + 10), "labels from 0 to 9"),
        ("pickled", b"", "EOFError"),
        ("pickled", pickled(IMAGES[0], LABELS[0])[:-40], "a pickle of images and labels"),
        ("pickled", pickle.dumps([1, 2]), "a pickle of images and labels"),
        ("pickled", by_python_3(IMAGES[0], LABELS[0][:2]), "expected 2 images of 3072 bytes"),
        ("pickled", by_python_3(IMAGES[0].astype(np.float32), LABELS[0]), "not of bytes"),
    ],
)
def test_a_file_that_is_something_else_is_named(tmp_path, form, content, message):
    write(tmp_path, form)
    (tmp_path / ("data_batch_2" + FORMS[form][1])).write_bytes(content)
    with pytest.raises(FileFormatError) as caught:
        cifar10(tmp_path)
    assert "data_batch_2" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("cut", [100, 0.5])
def test_a_damaged_archive_is_named(tmp_path, cut):
    archive = tmp_path / "cifar-10-binary.tar.gz"
    write_archive(archive, "binary")
    content = archive.read_bytes()
    archive.write_bytes(content[: cut if cut > 1 else int(len(content) * cut)])
    with pytest.raises(FileFormatError, match=r"cifar-10-binary\.tar\.gz: expected a whole tar.gz file"):
        cifar10(tmp_path)


def test_an_archive_of_something_else(tmp_path):
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz"):
        pass
    with pytest.raises(FileFormatError, match=r"none called data_batch_1\.bin"):
        cifar10(tmp_path)


def test_the_same_under_nn():
    assert datasets.cifar10 is cifar10
