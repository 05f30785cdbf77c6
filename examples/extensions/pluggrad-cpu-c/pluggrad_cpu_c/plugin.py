"""The door: pluggrad calls the hook when somebody names a variant of a device. Starts no compiler."""
from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace

from pluggrad.plugin_api import CVectorRenderer, Probe, Target, Toolchain, Variant, hookimpl


class CVariant(Variant):
    """The cpu device's kernels, through C."""

    def probe(self) -> Probe:
        compiler = os.environ.get("CC", "cc")
        if shutil.which(compiler) is None:
            return Probe(0, reason=f"there is no C compiler: {compiler!r} is not on the PATH",
                         fix="apt install gcc, or name the one there is: CC=clang")
        return Probe(1)

    def target(self, target: Target) -> Target:
        """The ops that the renderer knows; vectors, cores, caches and dtypes stay the cpu's."""
        return replace(target, capabilities=replace(target.capabilities, ops=CVectorRenderer.ops))

    def toolchain(self, target: Target) -> Toolchain:
        from pluggrad_cpu_c.toolchain import CToolchain

        return CToolchain(target, os.environ.get("CC", "cc"))


@hookimpl
def pluggrad_renderers(device_type: str) -> Mapping[str, Variant]:
    return {"c": CVariant()} if device_type == "cpu" else {}
