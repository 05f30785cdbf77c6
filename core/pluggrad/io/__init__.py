"""Files: tensors on disk, written all or not at all, and read onto any device."""
from pluggrad.io.safetensors import safe_load, safe_load_metadata, safe_save
from pluggrad.io.torch_file import torch_load
from pluggrad.tensor.unpickle import unpickle_on

__all__ = ["safe_load", "safe_load_metadata", "safe_save", "torch_load", "unpickle_on"]
