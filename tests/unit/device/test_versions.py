"""The plugin API's deprecation rule: what is deprecated works, warns, and names what replaces it."""

from __future__ import annotations

import warnings

import pluggy
import pytest

from pluggrad.device import hookspecs
from pluggrad.device.contract import Backend, Probe
from pluggrad.device.discovery import Entry
from pluggrad.device.hookspecs import hookimpl, hookspec
from pluggrad.device.plugins import Plugin, PluginHost
from pluggrad.device.versions import API_MINOR, Deprecation, deprecated, warn_overriding
from pluggrad.errors import PluggradWarning

TEXT = "Drum.hit is deprecated since plugin API 1.1 and goes in 2.0: use Drum.strike"


def drums() -> type:
    """A contract whose `hit` became `strike`: plugins written for either work."""

    class Drum:
        @deprecated(since=1, replacement="Drum.strike")
        def hit(self) -> str:
            return self.strike()

        def strike(self) -> str:
            return self.hit()

    Drum.hit.__pluggrad_deprecation__ = Deprecation("Drum.hit", 1, "Drum.strike")  # not <locals>.Drum.hit
    return Drum


def test_an_old_plugin_works_and_is_warned_once(recwarn):
    class Old(drums()):
        def hit(self):
            return "old"

    with pytest.warns(PluggradWarning, match=r"test_versions\.\S*Old\.hit: ") as caught:
        warn_overriding(Old())
    assert str(caught[0].message).endswith(TEXT)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_overriding(Old())
        assert Old().strike() == "old"


def test_a_new_plugin_is_not_warned_until_somebody_calls_the_old_name():
    class New(drums()):
        def strike(self):
            return "new"

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_overriding(New())
    with pytest.warns(PluggradWarning, match="hit is deprecated"):
        assert New().hit() == "new"


def test_a_subclass_of_an_old_plugin_is_warned_too():
    class Old(drums()):
        def hit(self):
            return "old"

    class Younger(Old):
        pass

    with pytest.warns(PluggradWarning, match=r"Younger\.hit: "):
        warn_overriding(Younger())


def test_whoever_implements_a_deprecated_hook_is_warned():
    class Specs:
        @hookspec(warn_on_impl=Deprecation("pluggrad_started", 1, "pluggrad_device_opened").warning)
        def pluggrad_started(self):
            """Goes."""

    class Plugin:
        @hookimpl
        def pluggrad_started(self):
            return None

    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(Specs)
    with pytest.warns(PluggradWarning, match="pluggrad_started is deprecated since plugin API 1.1") as caught:
        manager.register(Plugin())
    assert "use pluggrad_device_opened" in str(caught[0].message)


def test_a_registered_backend_is_looked_at(monkeypatch):
    monkeypatch.setattr(Backend, "describe", deprecated(API_MINOR, "Backend.about")(Backend.describe))

    class Chatty(Backend):
        def probe(self):
            return Probe(1)

        def target(self, index, variant):
            raise NotImplementedError

        toolchain = open = target

        def describe(self):
            return "as before"

    class Module:
        @hookimpl
        def pluggrad_backend(self, api):
            return Chatty()

    plugin = Plugin(Entry("chatty", "chatty", "devices.v1", 1, "chatty", "1.0"), PluginHost())
    monkeypatch.setattr(plugin, "_import", Module)
    with pytest.warns(PluggradWarning, match=r"Chatty\.describe: Backend\.describe is deprecated"):
        assert plugin.backend().describe() == "as before"
