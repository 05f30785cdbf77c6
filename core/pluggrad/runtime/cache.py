"""The disk cache: plans as JSON and binaries as blobs, in a private folder that is capped in size.

An entry is a file whose first line is the digest of the rest: a damaged entry is a miss. Files are written
beside their place and renamed, so that two writers never see half of one.
"""
from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from pluggrad import config
from pluggrad.errors import warn

# how names of entries begin; no other file is touched
_KINDS: Final = ("plan-", "kernel-", "blob-", "limits-", "tuned-", "new-")
_judged: dict[Path, bool] = {}  # folders looked at, and whether they can be used


def folder() -> Path | None:
    """The cache folder, made with mode 0700; None where caching is off or the folder is not ours alone."""
    if not config.CACHE.value:
        return None
    path = config.cache_dir()
    if path in _judged:
        return path if _judged[path] else None
    reason = _prepare(path)
    _judged[path] = reason is None
    if reason is None:
        return path
    warn(f"the cache folder {path} is not used: {reason}. Kernels are compiled anew in every process; set "
         "PLUGGRAD_CACHE_DIR to a folder of your own")
    return None


def _prepare(path: Path) -> str | None:
    """Make the folder; why it cannot be used, or None."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        if hasattr(os, "getuid") and found.st_uid != os.getuid():
            return "it belongs to another user, and what lies in it is loaded as code"
        if os.name == "posix" and stat.S_IMODE(found.st_mode) & 0o077:
            path.chmod(0o700)
        if not os.access(path, os.W_OK | os.X_OK):
            return "it cannot be written"
        probe = tempfile.NamedTemporaryFile(dir=path)  # noqa: SIM115  access() says yes to root on a read-only mount
        probe.close()
    except OSError as error:
        return str(error)
    return None


def _path(root: Path, kind: str, key: str) -> Path:
    return root / f"{kind}-{key}"


def load(kind: str, key: str) -> bytes | None:
    """An entry's content; None where there is none or it is damaged."""
    root = folder()
    if root is None:
        return None
    path = _path(root, kind, key)
    try:
        with path.open("rb") as file:
            # written by another user while the folder was still open to all
            if hasattr(os, "getuid") and os.fstat(file.fileno()).st_uid != os.getuid():
                return None
            content = file.read()
    except OSError:
        return None
    digest, _, body = content.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        path.unlink(missing_ok=True)
        return None
    return body


def store(kind: str, key: str, body: bytes) -> None:
    """Write an entry; where that fails the next process compiles again."""
    root = folder()
    if root is None:
        return
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=root, prefix="new-", delete=False) as file:
            temporary = Path(file.name)
            file.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        temporary.replace(_path(root, kind, key))
    except OSError:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        return
    _trim(root, config.CACHE_SIZE_MB.value << 20)


_written = 0


def _trim(root: Path, limit: int, every: int = 64) -> None:
    """Now and then, drop the entries not used for longest until the folder is below its limit."""
    global _written
    _written += 1
    if _written % every != 1:
        return
    files = _entries(root)
    total = sum(found.st_size for _, found in files)
    for path, found in sorted(files, key=lambda file: max(file[1].st_atime, file[1].st_mtime)):
        if total <= limit:
            return
        path.unlink(missing_ok=True)
        total -= found.st_size


def _entries(root: Path) -> list[tuple[Path, os.stat_result]]:
    """What the cache itself has put there: a folder of the user's may hold other files."""
    files = []
    for path in root.iterdir():
        if path.name.startswith(_KINDS):
            with suppress(OSError):  # another process has dropped it
                files.append((path, path.stat()))
    return files


def usage() -> tuple[Path, int, int]:
    """Folder, entries, bytes."""
    path = config.cache_dir()
    files = _entries(path) if path.is_dir() else []
    return path, len(files), sum(found.st_size for _, found in files)


def clear() -> int:
    """Delete every entry; returns how many there were."""
    root = folder()
    if root is None:
        return 0
    entries = _entries(root)
    for path, _ in entries:
        path.unlink(missing_ok=True)
    return len(entries)
