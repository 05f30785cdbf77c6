"""The public Tensor, in method families, each a module: a chain of classes that ends in `Tensor`."""
from pluggrad.tensor.grad_mode import no_grad
from pluggrad.tensor.precision import autocast
from pluggrad.tensor.random_state import manual_seed, rng_counter
from pluggrad.tensor.tensor import Tensor
from pluggrad.tensor.variable import Variable

__all__ = ["Tensor", "Variable", "autocast", "manual_seed", "no_grad", "rng_counter"]
