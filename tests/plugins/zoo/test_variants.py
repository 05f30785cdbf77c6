"""Variants: the name behind `@`, a backend's own or an extension's."""
from __future__ import annotations

import pytest

from pluggrad.errors import DeviceUnavailable, PluggradWarning, PluginFailed, UnknownDevice
from pluggrad.target import DeviceId
from tests.fake_plugins.install import write_metadata

HEAD = "from pluggrad.plugin_api import Probe, Toolchain, Variant, hookimpl\n"
WORKING = HEAD + """
class Plain(Variant):
    def toolchain(self, target):
        raise OSError('no toolchain')

@hookimpl
def pluggrad_renderers(device_type):
    return {'loud': Plain(), 's': Plain()}
"""


@pytest.fixture
def extension(tmp_path, zoo):
    """`extension(code, "name", ...)` installs extensions with this code beside fake-acme."""
    def make(code: str, *names: str):
        folder = tmp_path / "site"
        for name in names:
            module = f"fake_{name}"
            (folder / module).mkdir(parents=True)
            (folder / module / "__init__.py").write_text(code)
            write_metadata(folder, f"acme-{name}", "2.0", {"pluggrad.extensions.v1": {name: module}})
        return zoo("fake-acme", "fake-site")

    return make


def test_a_variant_is_a_device_of_its_own_in_the_same_memory(zoo):
    registry = zoo("fake-acme", "fake-site")
    loud, plain = registry.resolve("acme@loud"), registry.resolve("acme")
    assert (str(loud), loud == plain) == ("acme@loud", False)
    assert registry.target(loud).arch == "acme-0-loud"
    assert registry.target(loud).capabilities == registry.target(plain).capabilities
    assert registry.open_device(loud) is registry.open_device(plain)


def test_a_backends_own_variant_is_opened_by_the_backend(zoo):
    registry = zoo("fake-acme", "fake-site")
    own = registry.resolve("acme@s")
    assert registry.open_device(own).target.arch == "acme-0s"
    assert registry.open_device(own) is not registry.open_device(DeviceId("acme"))


def test_a_name_that_the_backend_has_stays_with_it(extension):
    registry = extension(WORKING, "taker")
    assert registry.target(registry.resolve("acme@s")).arch == "acme-0s"


@pytest.mark.parametrize(("plugins", "known"), [
    (("fake-acme",), r"Known: acme@s\."),
    (("fake-acme", "fake-site"), r"Known: acme@s, acme@loud \(fake-site 1\.0\)\."),
])
def test_an_unknown_variant_lists_the_known_ones(zoo, plugins, known):
    with pytest.raises(UnknownDevice, match=rf"device 'acme' has no variant 'quiet'\. {known}"):
        zoo(*plugins).resolve("acme@quiet")


def test_a_device_without_variants_says_so(zoo):
    with pytest.raises(UnknownDevice, match=r"'twin' has no variant 'x'\. It has none\."):
        zoo("fake-twin-a").resolve("twin@x")


def test_two_extensions_with_one_variant_are_both_refused(extension):
    registry = extension(WORKING, "one")
    with pytest.raises(DeviceUnavailable, match=r"both acme-one 2\.0 and fake-site 1\.0 bring variant 'loud' "
                                                r"of 'acme'    try: PLUGGRAD_DISABLE=one"):
        registry.resolve("acme@loud")


def test_a_variant_that_does_not_work_here_says_why_and_what_to_do(extension):
    code = WORKING.replace("class Plain(Variant):", "class Plain(Variant):\n    def probe(self):\n"
                           "        return Probe(0, reason='no compiler', fix='apt install gcc')\n")
    registry = extension(code.replace("'loud'", "'c'"), "c")
    with pytest.raises(DeviceUnavailable, match=r"device 'acme@c' \(acme-c 2\.0\) is unavailable: no compiler"
                                                "    try: apt install gcc"):
        registry.resolve("acme@c")


def test_a_failure_is_the_extensions_not_the_devices(extension):
    registry = extension(WORKING.replace("'loud'", "'c'"), "c")
    device = registry.resolve("acme@c")
    with pytest.raises(PluginFailed, match=r"extension 'c' \(acme-c 2\.0\) failed at toolchain: OSError: no"):
        registry.toolchain(device)
    assert registry.toolchain(DeviceId("acme")).compile("x") == b"x"


@pytest.mark.parametrize(("code", "message"), [
    ("raise OSError('no')", "OSError: no"),
    ("return ['c']", "is list, expected a mapping"),
    ("return {'c': Toolchain}", "variant 'c' is ABCMeta, expected Variant"),
])
def test_a_broken_hook_is_left_out_with_one_warning(extension, code, message):
    registry = extension(f"{HEAD}@hookimpl\ndef pluggrad_renderers(device_type):\n    {code}\n", "c")
    failed = rf"extension 'c' \(acme-c 2\.0\) failed at renderers: .*{message}"
    with pytest.warns(PluggradWarning, match=failed):
        assert str(registry.resolve("acme@loud")) == "acme@loud"
    with pytest.raises(UnknownDevice, match="no variant 'c'"):
        registry.resolve("acme@c")


def test_the_table_lists_variants_and_who_brings_them(run):
    result = run("-m", "pluggrad", "devices", "-v", plugins=("fake-acme", "fake-site"))
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert "acme@s  ready  (fake-acme 1.0)" in lines
    assert "acme@loud  ready  (fake-site 1.0)" in lines
