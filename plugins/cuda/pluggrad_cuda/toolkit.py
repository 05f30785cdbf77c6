"""Where parts of NVIDIA's toolkit are: in wheels, else in the toolkit itself."""
from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

WINDOWS: Final = sys.platform == "win32"
_NAMED_BY: Final = ("CUDA_HOME", "CUDA_PATH")  # environment variables that name a toolkit's folder


def wheels(*names: str) -> Iterator[Path]:
    """Folders of wheels, as patterns of their names, those of each place of Python's packages together."""
    packages = sysconfig.get_paths()
    for place in dict.fromkeys([*sys.path, packages["purelib"], packages["platlib"]]):
        for name in names:
            yield from sorted(Path(place, "nvidia").glob(name), reverse=True)


def toolkits() -> Iterator[Path]:
    """The toolkit that the environment names, then the usual one."""
    named = [os.environ[name] for name in _NAMED_BY if os.environ.get(name)]
    yield from map(Path, [*named, "/usr/local/cuda"])
