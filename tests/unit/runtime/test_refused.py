"""A kernel that a compiler refuses leaves its source and the compiler's log where the error says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pluggrad import Tensor
from pluggrad.device.ref import RefToolchain
from pluggrad.errors import CompileError


def test_source_and_log_are_saved(fresh_cache, monkeypatch):
    def refuse(self, source):
        raise CompileError("the compiler refused a kernel", source=source, log="line 1: error: no")

    monkeypatch.setattr(RefToolchain, "compile", refuse)
    with pytest.raises(CompileError, match=r"^the compiler refused a kernel    source and log: ") as caught:
        (Tensor([1.0, 2.0, 3.0], device="ref") * 117 + 0.7).numpy()
    error = caught.value
    folder = Path(error.folder)
    assert str(error).endswith(str(folder))
    assert (folder / "kernel.txt").read_text() == error.source
    assert "kernel" in error.source
    assert (folder / "log.txt").read_text() == error.log == "line 1: error: no"
    shutil.rmtree(folder)
