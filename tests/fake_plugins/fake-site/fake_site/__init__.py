"""An extension: a site's choice of device, a toolchain for somebody else's device, an observer."""
from __future__ import annotations

from pluggrad.plugin_api import Target, Toolchain, hookimpl

opened: list[str] = []


class Shouting(Toolchain):
    def __init__(self, target: Target) -> None:
        self.target = target

    def render(self, program):
        return program.name.upper()

    def compile(self, source):
        return source.encode()


@hookimpl
def pluggrad_renderers(device_type):
    return {"loud": Shouting} if device_type == "acme" else {}


@hookimpl
def pluggrad_choose_default(candidates):
    return "twin" if "twin" in candidates else None


@hookimpl
def pluggrad_device_opened(device):
    opened.append(device.target.arch)
