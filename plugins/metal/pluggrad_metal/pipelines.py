"""Pipeline states of kernels, made by the driver and kept on disk in an archive of its own."""
from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import Foundation
import Metal

from pluggrad.plugin_api import DeviceError, KernelFault, Target, cache_folder
from pluggrad_metal import libraries
from pluggrad_metal.binaries import Library
from pluggrad_metal.libraries import error_text
from pluggrad_metal.queue import Queue

_LARGEST: Final = 64 << 20  # bytes of an archive: beyond it a new one begins


class Pipelines:
    """Makes pipeline states for one device, in turns that the queue gives.

    What is in the archive on disk is not compiled again; it is written when the device is closed.
    """

    def __init__(self, queue: Queue, target: Target) -> None:
        self._queue, self._target = queue, target
        self._archive: Any = None
        self._path: Path | None = None
        self._opened = self._grown = False

    def load(self, binary: bytes, name: str) -> Any:
        """The pipeline of a kernel; CompileError, or KernelFault if the binary is damaged or lacks it."""
        library = libraries.library(self._queue.device, binary)
        with self._queue:
            return self._pipeline(library, name)

    def compile(self, source: str, name: str) -> Any:
        """The pipeline of a kernel in source text that any version of the language has."""
        with self._queue:
            return self._pipeline(libraries.compiled(self._queue.device, Library((2, 0), source)), name)

    def _pipeline(self, library: Any, name: str) -> Any:
        function = library.newFunctionWithName_(name)
        if function is None:
            raise KernelFault(op=f"load kernel {name}", expected="a binary that has it",
                              got=f"one of {', '.join(map(str, library.functionNames())) or 'no kernels'}")
        descriptor = Metal.MTLComputePipelineDescriptor.alloc().init()
        descriptor.setLabel_(name)
        descriptor.setComputeFunction_(function)
        archive = self._open()
        if archive is not None:
            descriptor.setBinaryArchives_([archive])
            found, _ = self._make(descriptor, Metal.MTLPipelineOptionFailOnBinaryArchiveMiss)
            if found is not None:
                return found
        pipeline, error = self._make(descriptor, Metal.MTLPipelineOptionNone)
        if pipeline is None:
            raise KernelFault(op=f"load kernel {name}", expected=f"a pipeline of {self._queue.name}",
                              got=error_text(error))
        if archive is not None:
            added, _ = archive.addComputePipelineFunctionsWithDescriptor_error_(descriptor, None)
            self._grown = self._grown or bool(added)
        return pipeline

    def _make(self, descriptor: Any, options: int) -> Any:
        """A pipeline and no error, or an error and no pipeline."""
        return self._queue.device.newComputePipelineStateWithDescriptor_options_reflection_error_(
            descriptor, options, None, None)

    # ---- the archive ---------------------------------------------------------------------------------------
    def _open(self) -> Any:
        """The archive; None where nothing is kept on disk, or the device has no archives."""
        if self._opened:
            return self._archive
        self._opened = True
        self._path = self._place()
        if self._path is None:
            return None
        with suppress(OSError):
            if self._path.stat().st_size <= _LARGEST:
                self._archive = self._archive_from(self._path)
        if self._archive is None:  # none yet, of another system, or damaged
            self._archive = self._archive_from(None)
        return self._archive

    def _place(self) -> Path | None:
        folder = cache_folder()
        if folder is None:
            return None
        system = Foundation.NSProcessInfo.processInfo().operatingSystemVersionString()
        key = hashlib.sha256(f"{self._target.arch}|{system}".encode()).hexdigest()
        return folder / f"blob-metal-{key}"

    def _archive_from(self, path: Path | None) -> Any:
        descriptor = Metal.MTLBinaryArchiveDescriptor.alloc().init()
        if path is not None:
            descriptor.setUrl_(Foundation.NSURL.fileURLWithPath_(str(path)))
        archive, _ = self._queue.device.newBinaryArchiveWithDescriptor_error_(descriptor, None)
        return archive

    def close(self) -> None:
        """Write the archive if it grew: beside its place and renamed, as another process may read it."""
        if not self._grown or self._path is None:
            return
        self._grown = False
        with suppress(OSError, DeviceError), self._queue:  # the next process compiles again
            self._write(self._path)

    def _write(self, path: Path) -> None:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="new-") as folder:
            made = Path(folder, "archive")
            url = Foundation.NSURL.fileURLWithPath_(str(made))
            written, _ = self._archive.serializeToURL_error_(url, None)
            if written:
                os.replace(made, path)
