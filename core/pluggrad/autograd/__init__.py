"""Graph to graph: gradients as ordinary nodes, one rule per primitive."""
from pluggrad.autograd.propagate import Trace, gradients, propagate, trace
from pluggrad.autograd.rules import RULES

__all__ = ["RULES", "Trace", "gradients", "propagate", "trace"]
