"""The only layer with effects: storage, transfers, caches, command lists, execute, realize."""
from pluggrad.runtime.counters import GlobalCounters
from pluggrad.runtime.memory import MemoryReport, MemoryStats
from pluggrad.runtime.realization import (
    add_pending,
    calls_pay,
    capturing,
    own,
    realize,
    realize_pending,
    realize_written,
)
from pluggrad.runtime.sessions import memory_stats, reset_peak_memory_stats
from pluggrad.runtime.sharing import borrow, is_host_memory, share
from pluggrad.runtime.storage import BufferVersion, Handle, Storage, buffer
from pluggrad.runtime.supported import require_dtype
from pluggrad.runtime.values import fetch, fetch_part, read, upload

__all__ = [
    "BufferVersion", "GlobalCounters", "Handle", "MemoryReport", "MemoryStats", "Storage", "add_pending",
    "borrow", "buffer", "calls_pay", "capturing", "fetch", "fetch_part", "is_host_memory", "memory_stats",
    "own", "read", "realize", "realize_pending", "realize_written", "require_dtype",
    "reset_peak_memory_stats", "share", "upload",
]
