"""Files: tensors on disk, written all or not at all."""
from pluggrad.io.safetensors import safe_load, safe_load_metadata, safe_save

__all__ = ["safe_load", "safe_load_metadata", "safe_save"]
