"""A file appears whole or not at all, also when the process is killed or two of them write it at once."""
from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file to write to, which takes the place of `path` when the block ends without an exception.

    After an exception the old file, if there was one, is untouched. OSError as `open` raises it.
    """
    import shutil  # both when a file is written: they bring much along
    from pathlib import Path

    target = Path(path)
    # beside the target: a rename is atomic within one file system only
    partial = target.with_name(f".{target.name}.{os.urandom(6).hex()}.partial")
    with partial.open("xb") as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, partial)
            file.close()  # Windows replaces closed files only
            os.replace(partial, target)
        except BaseException:
            file.close()
            partial.unlink(missing_ok=True)
            raise
