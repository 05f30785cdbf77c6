"""Functional forms: the Tensor methods that networks are made of, as functions of their first argument."""
from pluggrad.tensor import Tensor

relu = Tensor.relu
relu6 = Tensor.relu6
leaky_relu = Tensor.leaky_relu
elu = Tensor.elu
celu = Tensor.celu
selu = Tensor.selu
gelu = Tensor.gelu
quick_gelu = Tensor.quick_gelu
silu = Tensor.silu
swish = Tensor.swish
mish = Tensor.mish
sigmoid = Tensor.sigmoid
logsigmoid = Tensor.logsigmoid
softplus = Tensor.softplus
softsign = Tensor.softsign
tanh = Tensor.tanh
hardsigmoid = Tensor.hardsigmoid
hardswish = Tensor.hardswish
hardtanh = Tensor.hardtanh
glu = Tensor.glu
prelu = Tensor.prelu
softmax = Tensor.softmax
softmin = Tensor.softmin
log_softmax = Tensor.log_softmax

conv1d = Tensor.conv1d
conv2d = Tensor.conv2d
conv3d = Tensor.conv3d
conv_transpose1d = Tensor.conv_transpose1d
conv_transpose2d = Tensor.conv_transpose2d
conv_transpose3d = Tensor.conv_transpose3d
linear = Tensor.linear
embedding = Tensor.embedding
one_hot = Tensor.one_hot
scaled_dot_product_attention = Tensor.scaled_dot_product_attention
interpolate = Tensor.interpolate
pad = Tensor.pad
unfold = Tensor.unfold

max_pool1d = Tensor.max_pool1d
max_pool2d = Tensor.max_pool2d
max_pool3d = Tensor.max_pool3d
avg_pool1d = Tensor.avg_pool1d
avg_pool2d = Tensor.avg_pool2d
avg_pool3d = Tensor.avg_pool3d
adaptive_avg_pool1d = Tensor.adaptive_avg_pool1d
adaptive_avg_pool2d = Tensor.adaptive_avg_pool2d
adaptive_avg_pool3d = Tensor.adaptive_avg_pool3d
adaptive_max_pool1d = Tensor.adaptive_max_pool1d
adaptive_max_pool2d = Tensor.adaptive_max_pool2d
adaptive_max_pool3d = Tensor.adaptive_max_pool3d
max_unpool2d = Tensor.max_unpool2d

normalize = Tensor.normalize
batchnorm = Tensor.batchnorm
group_norm = Tensor.group_norm
instance_norm = Tensor.instance_norm
layernorm = Tensor.layernorm
layer_norm = Tensor.layer_norm
rms_norm = Tensor.rms_norm
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
kl_div = Tensor.kl_div
cosine_embedding_loss = Tensor.cosine_embedding_loss
soft_margin_loss = Tensor.soft_margin_loss
hinge_embedding_loss = Tensor.hinge_embedding_loss
margin_ranking_loss = Tensor.margin_ranking_loss
triplet_margin_loss = Tensor.triplet_margin_loss
poisson_nll_loss = Tensor.poisson_nll_loss
gaussian_nll_loss = Tensor.gaussian_nll_loss
binary_cross_entropy = Tensor.binary_crossentropy
binary_cross_entropy_with_logits = Tensor.binary_crossentropy_logits

__all__ = [
    "relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "quick_gelu", "silu", "swish", "mish",
    "sigmoid", "logsigmoid", "softplus", "softsign", "tanh", "hardsigmoid", "hardswish", "hardtanh",
    "glu", "prelu", "softmax", "softmin", "log_softmax",
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear",
    "embedding", "one_hot", "scaled_dot_product_attention", "interpolate", "pad", "unfold",
    "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "max_unpool2d",
    "normalize", "batchnorm", "group_norm", "instance_norm", "layernorm", "layer_norm", "rms_norm",
    "dropout",
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_crossentropy",
    "binary_crossentropy_logits", "nll_loss", "cross_entropy", "sparse_categorical_crossentropy",
    "kl_div", "cosine_embedding_loss", "soft_margin_loss", "hinge_embedding_loss", "margin_ranking_loss",
    "triplet_margin_loss", "poisson_nll_loss", "gaussian_nll_loss", "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
]
