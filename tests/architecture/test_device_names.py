"""No device name stands in core's logic: what differs between devices is a field of `Capabilities`.

Names, aliases and install hints live in device/known_devices.toml. Docstrings and comments may name devices.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable

from tests.architecture.source import CORE, Source, core_sources, parse, text_constants

KNOWN = tomllib.loads((CORE / "device" / "known_devices.toml").read_text(encoding="utf-8"))
# `ref` is the core's own; of the aliases only those that are no ordinary words.
NAMES = set(KNOWN["devices"]) - {"ref"} | {"gpu", "mps", "nvidia"}
DEVICE_NAME = re.compile(rf"(?<!\w)({'|'.join(sorted(NAMES))})(?!\w)")

# (file, text) -> why that text must stand there. An entry that is no longer needed fails the test.
ALLOWED: dict[tuple[str, str], str] = {}


def named_devices(sources: Iterable[Source]) -> dict[tuple[str, str], int]:
    """Strings that hold a device name as a whole word, with their line."""
    return {
        (source.path, text): line
        for source in sources
        for text, line in text_constants(source)
        if DEVICE_NAME.search(text)
    }


def test_core_names_no_device():
    found = named_devices(core_sources())
    assert [f"{entry[0]}:{found[entry]} {entry[1]!r}" for entry in found if entry not in ALLOWED] == []


def test_every_allowance_is_used():
    found = named_devices(core_sources())
    assert [entry for entry in ALLOWED if entry not in found] == []


def test_a_name_in_logic_is_found():
    comparison, name, hint = "device == 'cpu'", "pick('cuda:1@ptx')", "f'pip install pluggrad-opencl {x}'"
    for text in (comparison, name, hint):
        assert len(named_devices([parse("runtime/execute.py", text)])) == 1


def test_docstrings_comments_and_longer_words_are_not():
    text = '"""Runs on cpu."""\nx = 1  # not on cuda\n"a bare string: metal"\nn = getattr(os, "cpu_count")'
    assert named_devices([parse("runtime/execute.py", text)]) == {}
