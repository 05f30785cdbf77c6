"""MNIST's files as people have them, and what is said when they are wrong."""

from __future__ import annotations

import gzip
import hashlib
import struct

import numpy as np
import pytest

from pluggrad import config
from pluggrad.data import fashion_mnist, mnist, mnist_database
from pluggrad.errors import FileFormatError


def write_pair(folder, prefix, count, dot="-", packed=True):
    generator = np.random.default_rng(count)
    images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = generator.integers(0, 10, count, dtype=np.uint8)
    for kind, axes, array in (("images", 3, images), ("labels", 1, labels)):
        content = struct.pack(f">HBB{axes}I", 0, 8, axes, *array.shape) + array.tobytes()
        name = f"{prefix}{kind}{dot}idx{axes}-ubyte" + (".gz" if packed else "")
        (folder / name).write_bytes(gzip.compress(content) if packed else content)
    return images, labels


@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("packed", [True, False])
def test_four_files(tmp_path, dot, packed):
    train = write_pair(tmp_path, "train-", 6, dot, packed)
    test = write_pair(tmp_path, "t10k-", 4, dot, packed)
    split = mnist(tmp_path)
    assert split.X_train.shape == (6, 1, 28, 28)
    np.testing.assert_array_equal(split.X_train.numpy()[:, 0], train[0].astype(np.float32) / 255)
    np.testing.assert_array_equal(split.Y_train.numpy(), train[1])
    np.testing.assert_array_equal(split.X_test.numpy()[:, 0], test[0].astype(np.float32) / 255)
    np.testing.assert_array_equal(split.Y_test.numpy(), test[1])


def test_one_pair_is_split_in_its_order(tmp_path):
    images, labels = write_pair(tmp_path, "", 10)
    split = mnist(str(tmp_path))
    assert (len(split.Y_train.numpy()), len(split.Y_test.numpy())) == (8, 2)
    np.testing.assert_array_equal(split.X_test.numpy()[:, 0] * 255, images[8:])
    np.testing.assert_array_equal(split.Y_train.numpy(), labels[:8])


def test_a_missing_file_is_named(tmp_path):
    write_pair(tmp_path, "train-", 3)
    with pytest.raises(FileNotFoundError, match=r"t10k-images-idx3-ubyte, t10k-images-idx3-ubyte\.gz"):
        mnist(tmp_path)


def test_counts_that_differ(tmp_path):
    write_pair(tmp_path, "", 10)
    three = struct.pack(">HBBI", 0, 8, 1, 3) + bytes(3)
    (tmp_path / "labels-idx1-ubyte.gz").write_bytes(gzip.compress(three))
    with pytest.raises(FileFormatError, match=r"labels-idx1-ubyte\.gz.*10 labels.*got 3"):
        mnist(tmp_path)


def test_labels_that_are_no_digits(tmp_path):
    write_pair(tmp_path, "", 2)
    (tmp_path / "labels-idx1-ubyte.gz").write_bytes(struct.pack(">HBBI", 0, 8, 1, 2) + b"\x00\x0b")
    with pytest.raises(FileFormatError, match="labels from 0 to 9, got 11"):
        mnist(tmp_path)


@pytest.mark.parametrize("load", [mnist, fashion_mnist], ids=lambda load: load.__name__)
def test_without_a_folder_the_files_are_downloaded(tmp_path, monkeypatch, fresh_cache, load):
    source, name = tmp_path / "mirror", load.__name__
    source.mkdir()
    write_pair(source, "train-", 5)
    write_pair(source, "t10k-", 3)
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in source.iterdir()}
    assert sums.keys() == mnist_database._SHA256[name].keys()
    monkeypatch.setitem(mnist_database._SHA256, name, sums)
    monkeypatch.setitem(mnist_database._MIRRORS, name, (source.as_uri() + "/",))
    config.reload()
    try:
        assert load().X_train.shape == (5, 1, 28, 28)
        assert sorted(path.name for path in (fresh_cache / "datasets" / name).iterdir()) == sorted(sums)
    finally:
        config.reload()


def test_each_dataset_has_checksums_of_its_own():
    sums = [sum_ for files in mnist_database._SHA256.values() for sum_ in files.values()]
    assert len(set(sums)) == 8
    assert all(len(sum_) == 64 for sum_ in sums)


def test_clothes_come_in_the_same_form(tmp_path):
    images, labels = write_pair(tmp_path, "", 10)
    split = fashion_mnist(tmp_path)
    np.testing.assert_array_equal(split.X_train.numpy()[:, 0] * 255, images[:8])
    np.testing.assert_array_equal(split.Y_test.numpy(), labels[8:])


def test_the_real_files(mnist_10k):
    split = mnist(mnist_10k)
    labels = np.concatenate([split.Y_train.numpy(), split.Y_test.numpy()])
    assert (split.X_train.shape, split.X_test.shape) == ((8000, 1, 28, 28), (2000, 1, 28, 28))
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]
    images = np.concatenate([split.X_train.numpy(), split.X_test.numpy()])
    assert (images.min(), images.max()) == (0, 1)
    assert images.mean(dtype=np.float64) == pytest.approx(0.13251, abs=1e-5)
