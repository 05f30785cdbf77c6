"""The tensors of a model, by name or as a list; saved and loaded, alone or with all that a run needs."""
from pluggrad.io.safetensors import safe_load, safe_load_metadata, safe_save
from pluggrad.io.torch_file import torch_load
from pluggrad.nn.state.checkpoints import load_checkpoint, save_checkpoint
from pluggrad.nn.state.tensors import (
    get_parameters,
    get_state_dict,
    load_state_dict,
    named_modules,
    parts,
    to_device,
    to_dtype,
    walk,
)

__all__ = [
    "get_parameters", "get_state_dict", "load_state_dict", "named_modules", "to_device", "to_dtype",
    "walk", "parts",
    "safe_load", "safe_load_metadata", "safe_save", "torch_load",
    "save_checkpoint", "load_checkpoint",
]
