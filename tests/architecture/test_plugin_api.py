"""Within a major version of the plugin API nothing is taken away (docs/plugin-api.md)."""

from __future__ import annotations

import re

from pluggrad.device.versions import API_MAJOR, API_MINOR
from pluggrad.version import __version__
from tests.architecture.plugin_surface import RECORD, surface
from tests.architecture.source import ROOT

PAGE = (ROOT / "docs" / "plugin-api.md").read_text(encoding="utf-8")


def test_what_was_promised_is_still_there():
    promised = RECORD.read_text(encoding="utf-8").splitlines()
    assert len(promised) > 100
    missing = sorted(set(promised) - set(surface()))
    assert missing == [], ("plugins rely on these; if that version was never released: "
                           "python -m tests.architecture.plugin_surface")


def test_the_record_would_miss_a_parameter_a_method_and_a_hook():
    lines = set(surface())
    assert {"Allocator.alloc(nbytes)", "Device.load", "Capabilities.dtypes", "hook pluggrad_backend(api)",
            "pack_values(values)", "Backend.tier", "Signature.tasks", "MatrixTile.left"} <= lines


def test_the_page_speaks_of_this_version():
    version = f"{API_MAJOR}.{API_MINOR}"
    assert f"this is {version}, in pluggrad {__version__.rpartition('.')[0]}." in PAGE
    rows = re.findall(r"^\| (\d+)\.(\d+) \| \d", PAGE, re.MULTILINE)
    assert [int(minor) for _, minor in rows] == list(range(API_MINOR + 1))
