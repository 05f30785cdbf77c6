"""Files from the network, kept in the cache folder once their checksum was right."""
from __future__ import annotations

import hashlib
import logging
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

from pluggrad.data.progress import progress_bar
from pluggrad.errors import FileFormatError
from pluggrad.io.atomic import replacing

_CHUNK = 1 << 18
_TIMEOUT_S = 30
_log = logging.getLogger("pluggrad")


def fetch(mirrors: Sequence[str], name: str, sha256: str, folder: Path) -> Path:
    """The file called `name` in `folder`, downloaded from the first of `mirrors` (base URLs) that has it.

    A file that is there already is taken if its checksum is right. FileFormatError if what came has another
    checksum, ConnectionError if no mirror answers; nothing is kept of either.
    """
    path = folder / name
    if path.is_file() and _digest(path) == sha256:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for mirror in mirrors:
        url = mirror + name
        try:
            _download(url, path, sha256)
        except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
            _log.info("download of %s failed: %s", url, error)
            failures.append(f"{url}: {error}")
        else:
            return path
    raise ConnectionError(f"download of {name} failed. " + "; ".join(failures)
                          + ". Fetch the file some other way and pass its folder.")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(url: str, path: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response, replacing(path) as file:
        size = int(response.headers.get("Content-Length") or 0)
        with progress_bar(size or None, path.name, in_bytes=True) as bar:
            while chunk := response.read(_CHUNK):
                digest.update(chunk)
                file.write(chunk)
                bar.update(len(chunk))
        if digest.hexdigest() != sha256:
            raise FileFormatError(op=f"download of {url} to {path}", expected=f"SHA-256 {sha256}",
                                  got=digest.hexdigest(), hint="It was changed on its way or at its source")
