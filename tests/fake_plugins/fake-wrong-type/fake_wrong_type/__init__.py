"""A plugin whose hook returns a name and not a Backend."""
from __future__ import annotations

from pluggrad.plugin_api import hookimpl


@hookimpl
def pluggrad_backend(api):
    return api.device_type
