"""Optimizers, and schedules of their options in `nn.optim.lr_scheduler`; gradients are clipped by
`nn.clip_grad_norm_`, and kept in the range of float16 by `GradScaler`."""
from pluggrad.nn.optim import lr_scheduler
from pluggrad.nn.optim.adam import LAMB, Adam, AdamW
from pluggrad.nn.optim.descent import SGD, Adadelta, Adagrad, RMSprop
from pluggrad.nn.optim.groups import ParamGroup
from pluggrad.nn.optim.layerwise import LARS, Muon
from pluggrad.nn.optim.optimizer import Optimizer
from pluggrad.nn.optim.scaler import GradScaler

__all__ = [
    "SGD", "Adam", "AdamW", "LARS", "LAMB", "Muon", "RMSprop", "Adagrad", "Adadelta",
    "GradScaler", "Optimizer", "ParamGroup", "lr_scheduler",
]
