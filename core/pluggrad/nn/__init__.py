"""Layers and functional forms; optimizers in `nn.optim`, models' tensors in `nn.state`."""
from pluggrad.nn import datasets, optim, state
from pluggrad.nn.functional import (
    binary_crossentropy,
    cross_entropy,
    dropout,
    gelu,
    layernorm,
    leaky_relu,
    log_softmax,
    mse_loss,
    relu,
    sigmoid,
    silu,
    softmax,
    tanh,
)
from pluggrad.nn.layers import Dropout, LayerNorm, Linear, Sequential
from pluggrad.nn.module import Module

__all__ = [
    "Module", "Linear", "LayerNorm", "Dropout", "Sequential",
    "relu", "leaky_relu", "gelu", "silu", "sigmoid", "tanh", "softmax", "log_softmax", "layernorm", "dropout",
    "cross_entropy", "mse_loss", "binary_crossentropy",
    "datasets", "optim", "state",
]
