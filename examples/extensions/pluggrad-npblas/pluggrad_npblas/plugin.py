"""The device `npblas`: kernels are interpreted, as on `ref`; products of matrices go to NumPy's BLAS."""
from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version

from pluggrad.plugin_api import (
    Device,
    DeviceUnavailable,
    Extern,
    Offer,
    PluginApi,
    RefBackend,
    Target,
    hookimpl,
)

BLAS_DTYPES = ("float32", "float64")


class NpblasBackend(RefBackend):
    """What it does not take over it leaves to the interpreter."""

    tier = 1  # behind every compiled device, before `ref`
    claim_key = f"numpy {version('numpy')}"

    def target(self, index: int, variant: str) -> Target:
        return replace(super().target(index, variant), arch="numpy, blas")

    def open(self, index: int, variant: str) -> Device:
        from pluggrad_npblas.device import NpblasDevice  # loads NumPy

        if index or variant:
            raise DeviceUnavailable("npblas is one device without variants")
        return NpblasDevice(self.target(index, variant))

    def claim(self, offer: Offer) -> Extern | None:
        """Take products of matrices of one dtype that BLAS knows."""
        product = offer.matmul
        if product is None:
            return None
        dtypes = {product.a.dtype, product.b.dtype, product.out.dtype, product.accumulator}
        if len(dtypes) > 1 or product.accumulator.name not in BLAS_DTYPES:
            return None
        return Extern("numpy.matmul", product.encode())


@hookimpl
def pluggrad_backend(api: PluginApi) -> NpblasBackend:
    return NpblasBackend()
