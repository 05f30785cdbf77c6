"""The hook specifications, and the Protocol by which the core calls them."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

from pluggrad import plugin_api
from pluggrad.device import contract, hookspecs
from pluggrad.device.plugins import PluginHost

SPECS = {name: function for name, function in vars(hookspecs).items()
         if name.startswith("pluggrad_") and inspect.isfunction(function)}
CALLS = {name: function for name, function in vars(hookspecs.Hooks).items() if name.startswith("pluggrad_")}


def test_the_protocol_has_the_hooks_of_the_specifications():
    assert set(CALLS) == set(SPECS)
    assert set(SPECS) == {name for name in vars(PluginHost().manager.hook) if name.startswith("pluggrad_")}


@pytest.mark.parametrize("name", SPECS)
def test_the_protocol_agrees_with_the_specification(name):
    spec, call = inspect.signature(SPECS[name]), inspect.signature(CALLS[name])
    taken = {p.name: p.annotation for p in call.parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert taken == {p.name: p.annotation for p in spec.parameters.values()}
    assert len(call.parameters) == 1 + len(taken)
    first = SPECS[name].pluggrad_spec["firstresult"]
    assert call.return_annotation == (spec.return_annotation if first else f"list[{spec.return_annotation}]")


@pytest.mark.parametrize("name", SPECS)
def test_every_hook_has_a_docstring_with_an_example_that_registers(name):
    text = inspect.getdoc(SPECS[name])
    assert len(text.splitlines()[0]) > 20
    example = inspect.cleandoc(text.partition("Example:\n")[2])
    assert f"def {name}(" in example
    scope = {"hookimpl": hookspecs.hookimpl}
    exec(example, scope)
    host, module = PluginHost(), type("Module", (), {name: staticmethod(scope[name])})
    host.register(module)
    assert host.listening(name)


def test_two_modules_each_get_their_own_backend_call():
    class Plugin:
        def __init__(self, text):
            self.text = text

        @hookspecs.hookimpl
        def pluggrad_backend(self, api):
            return f"{self.text} as {api.device_type} v{api.major}"

    host, first, second = PluginHost(), Plugin("first"), Plugin("second")
    host.register(first)
    host.register(second)
    host.register(second)  # two entry points may name one module
    assert host.backend(first, "a") == "first as a v1"
    assert host.backend(second, "b") == "second as b v1"


def test_nobody_listens_at_first():
    assert not any(PluginHost().listening(name) for name in SPECS)


def test_the_plugin_api_gives_the_whole_contract():
    public = {name for name, value in vars(contract).items()
              if getattr(value, "__module__", "") == contract.__name__ and not name.startswith("_")}
    assert public - {"Done"} <= set(plugin_api.__all__)
    assert len(plugin_api.__all__) == len(set(plugin_api.__all__))
    module = import_module("pluggrad.plugin_api")
    assert all(getattr(module, name) is not None for name in plugin_api.__all__)
