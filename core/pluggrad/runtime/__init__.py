"""The only layer with effects: storage, transfers, caches, command lists, execute, realize."""
from pluggrad.runtime.counters import GlobalCounters
from pluggrad.runtime.realize import add_pending, capturing, read, realize, upload
from pluggrad.runtime.storage import BufferVersion, Handle, Storage, buffer

__all__ = ["BufferVersion", "GlobalCounters", "Handle", "Storage", "add_pending", "buffer", "capturing", "read", "realize",
           "upload"]
