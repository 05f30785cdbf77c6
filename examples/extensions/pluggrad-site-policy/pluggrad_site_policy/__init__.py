"""A site's policy: which device a host uses when nobody names one.

Rules stand in the file that SITE_POLICY names, a line each: a pattern for host names, then devices, best
first. The first line that fits the host decides.

    login*    cpu               # stay off the accelerators
    gpu*      cuda:1 cuda cpu
"""
from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from pluggrad.plugin_api import hookimpl


@hookimpl
def pluggrad_choose_default(candidates: Sequence[str]) -> str | None:
    """The first device of the host's line whose type works here; None leaves the choice to pluggrad."""
    rules = os.environ.get("SITE_POLICY")
    if rules is None:
        return None
    for line in Path(rules).read_text(encoding="utf-8").splitlines():
        pattern, *devices = line.partition("#")[0].split() or [""]
        if fnmatch(socket.gethostname(), pattern):
            return next((name for name in devices if name.partition(":")[0] in candidates), None)
    return None
