"""The files that plans and binaries come from, as part of their keys: an edited compiler starts anew."""
from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_CORE: Final = str(Path(__file__).parents[1])


def stamp(*makers: object) -> str:
    """A digest of name, size and time of each file of the core, and of the packages that `makers` are from.

    All that a package ships counts: a kernel's text may lie in a header or a template beside the modules.
    """
    tops = {type(maker).__module__.partition(".")[0] for maker in makers}
    places = {_CORE}.union(*[_places(top) for top in tops])
    files = sorted({found for place in places for found in _files(place)})
    return hashlib.sha256(repr(files).encode()).hexdigest()


def _places(top: str) -> Iterator[str]:
    """The folders of a package, or the file of a module that is in none; nothing of what is typed in."""
    module = sys.modules.get(top)
    file: str | None = getattr(module, "__file__", None)
    yield from getattr(module, "__path__", [file] if file else [])


def _files(place: str) -> Iterator[tuple[str, int, int]]:
    """Name, size and time of a file, or of each below a folder; `rglob` takes six times as long."""
    if not os.path.isdir(place):
        found = os.stat(place)
        yield os.path.basename(place), found.st_size, found.st_mtime_ns
        return
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__pycache__":
                continue
            if entry.is_dir():
                yield from _files(entry.path)
            else:
                found = entry.stat()
                yield entry.name, found.st_size, found.st_mtime_ns
