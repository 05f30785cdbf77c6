"""`python -m pluggrad cache info|clear`: the disk cache of plans and kernels."""
from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Final

from pluggrad import config
from pluggrad.runtime import cache


def main(arguments: Sequence[str]) -> int:
    """Print what the cache holds, or empty it."""
    parser = argparse.ArgumentParser(prog="python -m pluggrad cache", description=__doc__)
    parser.add_argument("action", choices=_ACTIONS, help="info: folder, entries, size; clear: delete all")
    print(_ACTIONS[parser.parse_args(arguments).action]())
    return 0


def _info() -> str:
    folder, entries, size = cache.usage()
    state = "" if config.CACHE.value else f"\nnot in use: {config.CACHE.variable}=0"
    limit = config.CACHE_SIZE_MB.value
    return f"{folder}\nentries: {entries}, {size / 2**20:.1f} MiB of at most {limit} MiB{state}"


def _clear() -> str:
    if not config.CACHE.value:
        return f"nothing deleted: the cache is not in use, {config.CACHE.variable}=0"
    return f"entries deleted: {cache.clear()}, from {config.cache_dir()}"


_ACTIONS: Final[dict[str, Callable[[], str]]] = {"info": _info, "clear": _clear}
