"""The only layer with effects: storage, transfers, caches, command lists, execute, realize."""
from pluggrad.runtime.storage import BufferVersion, Handle, Storage, buffer

__all__ = ["BufferVersion", "Handle", "Storage", "buffer"]
