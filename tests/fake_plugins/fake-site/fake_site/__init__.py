"""An extension: a site's choice of device, a toolchain for somebody else's device, an observer."""
from __future__ import annotations

from dataclasses import replace

from pluggrad.plugin_api import Target, Toolchain, Variant, hookimpl

opened: list[str] = []


class Shouting(Toolchain):
    def render(self, program):
        return program.name.upper()

    def compile(self, source):
        return source.encode()


class Loud(Variant):
    def target(self, target: Target) -> Target:
        return replace(target, arch=target.arch + "-loud")

    def toolchain(self, target):
        return Shouting()


@hookimpl
def pluggrad_renderers(device_type):
    return {"loud": Loud()} if device_type == "acme" else {}


@hookimpl
def pluggrad_choose_default(candidates):
    return "twin" if "twin" in candidates else None


@hookimpl
def pluggrad_device_opened(device):
    opened.append(device.target.arch)
