"""Digits as text for a terminal and as a picture in a file: what the autoencoders draw with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
INKS = " .:-=+*#%@"  # from white to black


def as_text(images: Array) -> str:
    """Images (n, side, side), 0 white to 1 black, side by side. A character is twice as high as wide."""
    wide = np.concatenate([np.pad(image, [(0, 0), (0, 1)]) for image in images], axis=1)
    wide = wide.repeat(2, axis=1) if images.shape[1] <= 16 else wide[::2]
    inks = np.clip(wide * len(INKS), 0, len(INKS) - 1).astype(int)
    return "\n".join("".join(INKS[ink] for ink in row).rstrip() for row in inks)


def save(parts: Mapping[str, Array], path: Path) -> None:
    """One panel for each part: a title, and images (rows, columns, side, side) in a grid."""
    import matplotlib as mpl  # here, since it takes longer to load than the networks to make their first step

    mpl.use("Agg")  # pictures go to files: no window is needed
    import matplotlib.pyplot as plt

    heights = [8 * images.shape[0] / images.shape[1] for images in parts.values()]
    figure, panels = plt.subplots(len(parts), figsize=(8, sum(heights) + 0.4 * len(parts)), squeeze=False,
                                  height_ratios=heights, layout="constrained")
    for panel, (title, images) in zip(panels[:, 0], parts.items()):
        border = images.shape[2] // 8
        framed = np.pad(images, [(0, 0), (0, 0), (border, border), (border, border)])
        panel.imshow(np.block([list(row) for row in framed]), cmap="gray_r", vmin=0, vmax=1)
        panel.set_title(title)
        panel.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"picture: {path}")
