"""Device names: grammar, owners, aliases, and what is said of unknown ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluggrad.device.names import known_devices, meaning, normalized, unknown
from pluggrad.errors import UnknownDevice
from pluggrad.target import DeviceId

TYPES = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
VARIANTS = st.from_regex(r"([a-z0-9_-]{1,6})?", fullmatch=True)


@given(TYPES, st.integers(0, 99), VARIANTS)
def test_a_device_prints_as_it_parses(kind, index, variant):
    device = DeviceId(kind, index, variant)
    assert DeviceId.parse(str(device)) == device
    assert DeviceId.parse(f"  {str(device).upper()} ") == device


@pytest.mark.parametrize(("text", "canonical"), [
    ("CUDA:1", "cuda:1"), ("cpu:0", "cpu"), ("Cpu:0@C", "cpu@c")])
def test_canonical_text(text, canonical):
    assert str(DeviceId.parse(text)) == canonical


@pytest.mark.parametrize("text", [
    "", ":", "1", "cpu:", "cpu:-1", "cpu:1:2", "cpu@", "cpu,cuda", "c pu", "cpu:1@a@b"])
def test_what_does_not_follow_the_grammar(text):
    with pytest.raises(UnknownDevice, match="expected type"):
        DeviceId.parse(text)


def test_the_data_file_is_consistent():
    known = known_devices()
    assert set(known.owners) == set(known.install)
    for alias, meant in known.aliases.items():
        assert alias not in known.owners
        assert set(meant) <= set(known.owners)
    assert all(normalized(owner) == owner for owner in known.owners.values())


@pytest.mark.parametrize(("asked", "installed", "means"), [
    ("mps", {"cpu"}, "metal"), ("cl", {"opencl"}, "opencl"), ("cl", {"cl"}, "cl"), ("cpu", {"cpu"}, "cpu"),
    ("gpu", {"cpu", "opencl"}, "opencl"), ("other", set(), "other"),
])
def test_what_people_type_instead(asked, installed, means):
    assert meaning(asked, installed) == means


def test_a_name_that_may_mean_several_installed_devices_is_refused():
    with pytest.raises(UnknownDevice) as caught:
        meaning("gpu", {"cpu", "cuda", "opencl"})
    assert str(caught.value) == "'gpu' may mean 'cuda' or 'opencl' here.    name one of them"


def test_a_name_of_which_no_meaning_is_installed_lists_what_to_install():
    with pytest.raises(UnknownDevice) as caught:
        meaning("gpu", {"cpu"})
    assert str(caught.value) == (
        "no plugin provides device 'gpu'. Installed: cpu.    install one:  pip install pluggrad-cuda | "
        "pip install pluggrad-metal | pip install pluggrad-opencl")


@pytest.mark.parametrize(("name", "installed", "asked", "head", "hint"), [
    ("metal", {"cpu", "cuda"}, "", "'metal'. Installed: cpu, cuda.",
     "install it:  pip install pluggrad-metal"),
    ("opncl", {"cpu", "opencl"}, "", "'opncl'. Installed: cpu, opencl.", "did you mean 'opencl'?"),
    ("opncl", {"cpu"}, "", "'opncl'. Installed: cpu.",
     "did you mean 'opencl'? install it:  pip install pluggrad-opencl"),
    ("metal", {"cpu"}, "mps", "'metal' ('mps' means 'metal'). Installed: cpu.",
     "install it:  pip install pluggrad-metal"),
    ("zzzz", set(), "", "'zzzz'. Installed: none.", "python -m pluggrad devices  lists what is there"),
])
def test_unknown_names(name, installed, asked, head, hint):
    error = unknown(name, installed, asked=asked)
    assert str(error) == f"no plugin provides device {head}    {hint}"
    assert error.hint == hint


@pytest.mark.parametrize("name", ["Pluggrad_CUDA", "pluggrad.cuda", "pluggrad--cuda"])
def test_distribution_names_are_compared_normalized(name):
    assert normalized(name) == "pluggrad-cuda"
