"""gradcheck accepts right gradients and finds wrong ones."""
from __future__ import annotations

import numpy as np
import pytest

from pluggrad.tensor import Tensor
from pluggrad.testing.gradcheck import gradcheck

X = np.array([[0.3, -1.2, 2.0], [0.7, 0.1, -0.4]])
Y = np.array([[1.5], [-0.5], [0.25]])


def test_right_gradients_of_both_orders_pass() -> None:
    gradcheck(lambda x, y: (x @ y).exp() * x.sum(1, keepdim=True), [X, Y], order=2, device="ref")


def test_several_outputs_and_a_scalar_input() -> None:
    gradcheck(lambda x, s: [x * s, (x * x).sum()], [X, 1.7], device="ref")


def test_linear_functions_have_no_slope_of_second_order() -> None:
    gradcheck(lambda x: x * 3, [X], order=2, device="ref")


def test_a_wrong_gradient_is_found_and_placed() -> None:
    def fn(x: Tensor) -> Tensor:
        return x * x.detach()  # misses half of the gradient
    with pytest.raises(AssertionError, match=r"gradient of input 0, element \(0, 0\): expected 0\..*6 of 6"):
        gradcheck(fn, [X], device="ref")


def test_a_wrong_gradient_of_second_order_is_found() -> None:
    def fn(x: Tensor) -> Tensor:
        # the first gradient, 2x, is right; it is constant to a second one
        return x * x.detach() * 2 - (x.detach() * x.detach())
    with pytest.raises(AssertionError, match="second-order"):
        gradcheck(fn, [X], order=2, device="ref")
