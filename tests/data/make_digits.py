"""Makes core/pluggrad/data/digits.npz from the copy of the UCI digits that scikit-learn's wheel carries.

    python tests/data/make_digits.py scikit_learn-*.whl      (from: pip download --no-deps scikit-learn)

The wheel is read as a zip file; scikit-learn itself is not installed. The images keep their order and values.
"""

from __future__ import annotations

import argparse
import gzip
import io
import zipfile
from pathlib import Path

import numpy as np

TARGET = Path(__file__).parents[2] / "core" / "pluggrad" / "data" / "digits.npz"
MEMBER = "sklearn/datasets/data/digits.csv.gz"


def read_table(wheel: Path) -> np.ndarray:
    """1,797 rows of 64 gray levels (0 to 16) and the digit."""
    with zipfile.ZipFile(wheel) as archive, gzip.open(io.BytesIO(archive.read(MEMBER)), "rt") as lines:
        return np.loadtxt(lines, delimiter=",", dtype=np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--out", type=Path, default=TARGET)
    arguments = parser.parse_args()
    table = read_table(arguments.wheel)
    images, labels = table[:, :-1].astype(np.uint8).reshape(-1, 8, 8), table[:, -1].astype(np.uint8)
    if not np.array_equal(table, np.column_stack([images.reshape(-1, 64), labels])):
        raise SystemExit(f"{arguments.wheel}: values that bytes do not hold")
    np.savez_compressed(arguments.out, images=images, labels=labels)
    print(f"{arguments.out}: {len(images)} images, {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
