"""Graph to graph: gradients as ordinary nodes, one rule per primitive."""
from pluggrad.autograd.batching import BATCHING, Batch, Source, batched
from pluggrad.autograd.propagate import Trace, gradients, propagate, trace
from pluggrad.autograd.repeated import WayBack
from pluggrad.autograd.rules import RULES

__all__ = [
    "BATCHING", "RULES", "Batch", "Source", "Trace", "WayBack", "batched", "gradients", "propagate", "trace"]
