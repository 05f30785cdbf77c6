"""The only layer with effects: storage, transfers, caches, command lists, execute, realize."""
from pluggrad.runtime.counters import GlobalCounters
from pluggrad.runtime.realization import (
    add_pending,
    capturing,
    fetch,
    own,
    read,
    realize,
    realize_pending,
    upload,
)
from pluggrad.runtime.session import memory_stats
from pluggrad.runtime.storage import BufferVersion, Handle, Storage, buffer
from pluggrad.runtime.supported import require_dtype

__all__ = ["BufferVersion", "GlobalCounters", "Handle", "Storage", "add_pending", "buffer", "capturing",
           "fetch", "memory_stats", "own", "read", "realize", "realize_pending", "require_dtype", "upload"]
