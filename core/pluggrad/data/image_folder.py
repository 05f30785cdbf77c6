"""Images in folders, one for each class."""
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pluggrad.errors import FileFormatError, MissingLibrary, ValueRangeError

_SUFFIXES: Final = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm")
_FORMATS: Final = ("BMP", "JPEG", "PNG", "PPM")  # no others are tried, whatever a file is called
_MODES: Final = {"RGB": 3, "L": 1}

Transform = Callable[[npt.NDArray[np.float32]], Any]


class ImageFolder:
    """The images below `root`, where each folder is a class: `root/cat/1.png`, `root/dog/a/2.jpg`.

    Item i is `(image, label)`: float32 (channels, height, width) in [0, 1], and the number of its class.
    PNG, JPEG, BMP and PPM files are read, by Pillow, at any depth; others are passed over.

    size: an int for squares or (height, width): images are scaled until they cover it, and what is beyond is
        cut off evenly. None leaves them as they are.
    mode: "RGB" for 3 channels, "L" for 1, brightness.
    transform: is given each image, and what it returns takes its place; target_transform the same for labels.

    `classes` are the folders' names, sorted; `class_to_idx` their numbers; `samples` pairs of path and label;
    `targets` the labels. FileNotFoundError if there is no class, or one without an image; FileFormatError,
    naming the file, where one is read that is damaged; MissingLibrary without Pillow.
    """

    def __init__(self, root: str | os.PathLike[str], transform: Transform | None = None,
                 target_transform: Callable[[int], Any] | None = None, *,
                 size: int | tuple[int, int] | None = None, mode: str = "RGB") -> None:
        _pillow()
        if mode not in _MODES:
            raise ValueRangeError(op="ImageFolder", expected=f"mode {' or '.join(_MODES)}", got=repr(mode))
        self.root, self.mode = Path(root), mode
        self.transform, self.target_transform = transform, target_transform
        self.size = (size, size) if isinstance(size, int) else size
        if self.size is not None and min(self.size) < 1:
            raise ValueRangeError(op="ImageFolder", expected="a size of at least 1", got=repr(size))
        self.classes = sorted(folder.name for folder in self.root.iterdir() if folder.is_dir())
        if not self.classes:
            raise FileNotFoundError(f"ImageFolder: {root} has no folders, one for each class")
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}
        self.samples = [(path, label) for name, label in self.class_to_idx.items()
                        for path in _images(self.root / name)]

    @property
    def targets(self) -> list[int]:
        """The label of every image."""
        return [label for _, label in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        path, label = self.samples[index]
        image = read_image(path, self.size, self.mode)
        return (image if self.transform is None else self.transform(image),
                label if self.target_transform is None else self.target_transform(label))

    def __repr__(self) -> str:
        return f"ImageFolder({str(self.root)!r}, {len(self)} images, classes {', '.join(self.classes)})"


def read_image(path: str | os.PathLike[str], size: tuple[int, int] | None = None,
               mode: str = "RGB") -> npt.NDArray[np.float32]:
    """An image as float32 (channels, height, width) in [0, 1]; arguments and errors as for `ImageFolder`."""
    pillow = _pillow()
    from PIL import ImageOps

    try:
        with pillow.open(path, formats=_FORMATS) as file:
            image = ImageOps.exif_transpose(file)  # a camera that was held upright says so there
            if image.mode.startswith("I"):  # 16 bits: `convert` would cut off what is above 255
                image = image.point(lambda value: value * (1 / 256)).convert("L")
            image = image.convert(mode)
    except FileNotFoundError:
        raise
    except Exception as error:  # decoders raise what they like over damaged files
        raise FileFormatError(op=f"read {os.fspath(path)}", expected=f"an image, {', '.join(_FORMATS)}",
                              got=f"{type(error).__name__}: {error}") from error
    if size is not None:
        height, width = size
        image = ImageOps.fit(image, (width, height), pillow.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32).reshape(image.height, image.width, _MODES[mode])
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)) / np.float32(255)


def _images(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not found:
        raise FileNotFoundError(f"ImageFolder: {folder} has no images ({' '.join(_SUFFIXES)})")
    return found


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingLibrary(op="ImageFolder", expected="the library Pillow", got="an import that failed",
                             hint="pip install 'pluggrad[images]'") from error
    return Image
