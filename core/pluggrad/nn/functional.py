"""Functional forms: the Tensor methods that networks are made of, as functions of their first argument."""
from pluggrad.tensor import Tensor

relu = Tensor.relu
relu6 = Tensor.relu6
leaky_relu = Tensor.leaky_relu
elu = Tensor.elu
celu = Tensor.celu
selu = Tensor.selu
gelu = Tensor.gelu
silu = Tensor.silu
mish = Tensor.mish
sigmoid = Tensor.sigmoid
logsigmoid = Tensor.logsigmoid
softplus = Tensor.softplus
softsign = Tensor.softsign
tanh = Tensor.tanh
hardsigmoid = Tensor.hardsigmoid
hardswish = Tensor.hardswish
hardtanh = Tensor.hardtanh
softmax = Tensor.softmax
softmin = Tensor.softmin
log_softmax = Tensor.log_softmax

normalize = Tensor.normalize
layernorm = Tensor.layernorm
dropout = Tensor.dropout

mse_loss = Tensor.mse_loss
l1_loss = Tensor.l1_loss
smooth_l1_loss = Tensor.smooth_l1_loss
huber_loss = Tensor.huber_loss
binary_crossentropy = Tensor.binary_crossentropy
binary_crossentropy_logits = Tensor.binary_crossentropy_logits
nll_loss = Tensor.nll_loss
cross_entropy = Tensor.cross_entropy
sparse_categorical_crossentropy = Tensor.sparse_categorical_crossentropy

__all__ = [
    "relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish", "sigmoid",
    "logsigmoid", "softplus", "softsign", "tanh", "hardsigmoid", "hardswish", "hardtanh", "softmax",
    "softmin", "log_softmax", "normalize", "layernorm", "dropout",
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_crossentropy",
    "binary_crossentropy_logits", "nll_loss", "cross_entropy", "sparse_categorical_crossentropy",
]
