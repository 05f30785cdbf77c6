"""Folders of images: what is read, in which order and shape, and what is said of damaged files."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from pluggrad.data import DataLoader, ImageFolder, read_image
from pluggrad.errors import FileFormatError, MissingLibrary, ShapeError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def save(path, color, size=(4, 3), mode="RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two classes, written in another order than theirs, files of each format and others among them."""
    save(tmp_path / "red" / "2.bmp", RED)
    save(tmp_path / "red" / "1.png", RED)
    save(tmp_path / "green" / "deep" / "b.JPG", GREEN)
    save(tmp_path / "green" / "a.ppm", GREEN)
    (tmp_path / "green" / "notes.txt").write_text("no image")
    (tmp_path / "list.csv").write_text("no class")
    return tmp_path


def test_classes_and_samples_are_sorted(folder):
    dataset = ImageFolder(folder)
    assert dataset.classes == ["green", "red"]
    assert dataset.class_to_idx == {"green": 0, "red": 1}
    assert [path.name for path, _ in dataset.samples] == ["a.ppm", "b.JPG", "1.png", "2.bmp"]
    assert dataset.targets == [0, 0, 1, 1]
    assert len(dataset) == 4
    assert repr(dataset) == f"ImageFolder('{folder}', 4 images, classes green, red)"


def test_images_are_channels_first_from_0_to_1(folder):
    for index, channel in enumerate([1, 1, 0, 0]):
        image, label = ImageFolder(str(folder))[index]
        assert (image.dtype, image.shape, label) == (np.float32, (3, 3, 4), index // 2)
        np.testing.assert_allclose(image[channel], 1, atol=0.01)
        np.testing.assert_allclose(np.delete(image, channel, axis=0), 0, atol=0.01)


def test_pixels_are_where_they_were(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), pixels.transpose(2, 0, 1) / np.float32(255))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "I;16", "CMYK"])
def test_other_kinds_of_images(tmp_path, mode):
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    gray = np.tile(np.linspace(0, 255, 16).astype(np.uint8), (4, 1))
    if mode == "I;16":
        Image.fromarray(gray.astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(gray).convert("RGB" if mode == "CMYK" else "L").convert(mode).save(path)
    for wanted, channels in (("RGB", 3), ("L", 1)):
        image = read_image(path, mode=wanted)
        assert image.shape == (channels, 4, 16)
        if mode != "1":  # dithered
            np.testing.assert_allclose(image[0], gray / 255, atol=0.03)


def test_brightness_alone(folder):
    image, _ = ImageFolder(folder, mode="L")[3]
    np.testing.assert_allclose(image, np.full((1, 3, 4), 76 / 255), atol=0.01)  # 0.299 of full red


@pytest.mark.parametrize(("size", "shape"), [(8, (3, 8, 8)), ((2, 6), (3, 2, 6)), (None, (3, 10, 20))])
def test_sizes(tmp_path, size, shape):
    """Scaled to cover, cut evenly: of a wide image with a blue middle a square keeps the middle."""
    image = Image.new("RGB", (20, 10), RED)
    image.paste(BLUE, (5, 0, 15, 10))
    (tmp_path / "one").mkdir()
    image.save(tmp_path / "one" / "x.png")
    pixels, _ = ImageFolder(tmp_path, size=size)[0]
    assert pixels.shape == shape
    if size == 8:
        assert pixels[2].mean() > 0.9


def test_an_image_is_turned_as_the_camera_was(tmp_path):
    image = Image.new("RGB", (4, 2), RED)
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn
    image.save(tmp_path / "x.jpg", exif=exif)
    assert read_image(tmp_path / "x.jpg").shape == (3, 4, 2)


def test_transforms(folder):
    dataset = ImageFolder(folder, lambda image: image.mean(), lambda label: -label)
    assert dataset[2] == (pytest.approx(1 / 3, abs=0.01), -1)


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"num_workers": 2, "worker_type": "thread"}])
def test_through_a_loader(folder, options):
    loader = DataLoader(ImageFolder(folder, size=6), 3, shuffle=True, seed=0, **options)
    batches = list(loader)
    assert [images.shape for images, _ in batches] == [(3, 3, 6, 6), (1, 3, 6, 6)]
    for images, labels in batches:
        np.testing.assert_array_equal(images.numpy().mean((2, 3)).argmax(1), 1 - labels.numpy())


@pytest.mark.parametrize(
    "content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n" + bytes(20)], ids=["empty", "text", "header"]
)
def test_a_damaged_file_is_named(folder, content):
    (folder / "red" / "1.png").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"1\.png: expected an image, BMP, JPEG, PNG, PPM"):
        ImageFolder(folder)[2]


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.bmp", "x.ppm"])
def test_a_cut_file_is_named(tmp_path, name):
    save(tmp_path / name, RED, (50, 50))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(FileFormatError, match=name):
        read_image(tmp_path / name)


def test_other_formats_are_not_tried(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "x.gif")
    (tmp_path / "x.gif").rename(tmp_path / "x.png")
    with pytest.raises(FileFormatError, match="UnidentifiedImageError"):
        read_image(tmp_path / "x.png")


def test_folders_that_are_none(tmp_path, folder):
    with pytest.raises(FileNotFoundError):
        ImageFolder(tmp_path / "nowhere")
    (folder / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty has no images \(\.bmp \.jpeg"):
        ImageFolder(folder)
    with pytest.raises(FileNotFoundError, match="has no folders, one for each class"):
        ImageFolder(folder / "empty")
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "nowhere.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"mode": "BGR"}, "mode RGB or L, got 'BGR'"), ({"size": 0}, "size of at least 1, got 0")],
)
def test_what_it_refuses(folder, options, message):
    with pytest.raises(ValueError, match=message):
        ImageFolder(folder, **options)


def test_images_of_several_sizes_make_no_batch(folder):
    save(folder / "green" / "c.png", GREEN, (5, 5))
    with pytest.raises(ShapeError, match=r"\(3, 3, 4\) in item 0 and \(3, 5, 5\) in item 1"):
        list(DataLoader(ImageFolder(folder), 5))


def test_without_the_library(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingLibrary, match=r"pip install 'pluggrad\[images\]'"):
        ImageFolder(folder)
