"""Functions of tensors to functions of tensors: gradients, batching, recomputation, rules of one's own."""
from pluggrad.transform.anomalies import anomaly
from pluggrad.transform.custom import custom_vjp
from pluggrad.transform.derivatives import grad, hessian, jacobian, jvp, value_and_grad, vjp
from pluggrad.transform.recomputation import checkpoint
from pluggrad.transform.vectorization import vmap

__all__ = ["anomaly", "checkpoint", "custom_vjp", "grad", "hessian", "jacobian", "jvp", "value_and_grad",
           "vjp", "vmap"]
