"""Progress bars by tqdm: quiet where the output is no terminal, drawn by widgets in notebooks."""
from __future__ import annotations

from typing import Any, Final

from pluggrad.errors import MissingLibrary


class _Silent:
    """Stands in for a bar where tqdm is not installed and nobody asked for a bar."""

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def update(self, count: int = 1) -> None:
        pass


SILENT: Final = _Silent()


def progress_bar(total: int | None, label: str, *, initial: int = 0, unit: str = "batch",
                 in_bytes: bool = False, required: bool = False) -> Any:
    """A bar with `update(count)`, for `with`.

    MissingLibrary without tqdm if a bar is `required`; else nothing is shown then.
    """
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        if not required:
            return SILENT
        raise MissingLibrary(op="progress", expected="the library tqdm", got="an import that failed",
                             hint="pip install 'pluggrad[progress]', or leave progress out") from error
    # disable=None: off where the output is not a terminal; notebooks have none and show theirs all the same
    return tqdm(total=total, desc=label or None, initial=initial, unit="B" if in_bytes else unit,
                unit_scale=in_bytes, disable=None)
