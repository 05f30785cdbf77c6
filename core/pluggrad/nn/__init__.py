"""Layers and functional forms; see also `nn.optim`, `nn.state` and `nn.datasets`."""
from pluggrad.nn import datasets, functional, optim, state
from pluggrad.nn.functional import (
    binary_crossentropy,
    binary_crossentropy_logits,
    celu,
    cross_entropy,
    dropout,
    elu,
    gelu,
    hardsigmoid,
    hardswish,
    hardtanh,
    huber_loss,
    l1_loss,
    layernorm,
    leaky_relu,
    log_softmax,
    logsigmoid,
    mish,
    mse_loss,
    nll_loss,
    normalize,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    smooth_l1_loss,
    softmax,
    softmin,
    softplus,
    softsign,
    sparse_categorical_crossentropy,
    tanh,
)
from pluggrad.nn.layers import Dropout, LayerNorm, Linear, Sequential
from pluggrad.nn.module import Module

__all__ = [
    "Module", "Linear", "LayerNorm", "Dropout", "Sequential",
    "relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish", "sigmoid",
    "logsigmoid", "softplus", "softsign", "tanh", "hardsigmoid", "hardswish", "hardtanh", "softmax",
    "softmin", "log_softmax", "normalize", "layernorm", "dropout",
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_crossentropy",
    "binary_crossentropy_logits", "nll_loss", "cross_entropy", "sparse_categorical_crossentropy",
    "datasets", "functional", "optim", "state",
]
