"""One broken plugin is a recorded failure with phase, reason and fix, and never touches another."""

from __future__ import annotations

import os
import pickle
import sys
import threading

import pytest

from pluggrad.device.registry import Registry
from pluggrad.errors import DeviceUnavailable, PluginFailed, UnknownDevice
from pluggrad.target import DeviceId
from tests.fake_plugins.install import distributions, install

# device -> (distribution, phase, part of the reason)
BROKEN = {
    "importerror": ("fake-import-error", "import", "No module named 'a_package_that_nobody_has'"),
    "exits": ("fake-exit", "import", "SystemExit: no licence found"),
    "wronghook": ("fake-wrong-hook", "register", "did you mean 'pluggrad_backend'?"),
    "wrongsignature": ("fake-wrong-signature", "register", "driver"),
    "proberaises": ("fake-probe-raises", "probe", "OSError: driver is older than the library"),
    "wrongtype": ("fake-wrong-type", "backend", "is str, expected Backend"),
    "newer": ("fake-newer", "import", "cannot import name 'ReactorCore' from 'pluggrad.plugin_api'"),
    "demanding": ("fake-demanding", "backend", "it needs plugin API 1.999; this pluggrad has 1."),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_says_phase_reason_and_fix(zoo, name):
    distribution, phase, reason = BROKEN[name]
    registry = zoo(distribution, "fake-acme")
    with pytest.raises(PluginFailed) as caught:
        registry.resolve(name)
    assert caught.value.phase == phase
    assert str(caught.value).startswith(f"device '{name}' ({distribution} 1.0) failed at {phase}: ")
    assert reason in str(caught.value)
    assert "    try: " in str(caught.value)
    assert registry.resolve("acme") == DeviceId("acme")
    row = next(row for row in registry.installed() if row.name == name)
    assert (row.state, row.phase) == ("failed", phase)
    assert "Traceback" in row.traceback


@pytest.mark.parametrize("name", ["newer", "demanding"])
def test_a_plugin_for_a_later_minor_version_asks_for_a_newer_core(zoo, name):
    with pytest.raises(PluginFailed, match=r"try: pip install --upgrade pluggrad$"):
        zoo(BROKEN[name][0]).resolve(name)


@pytest.mark.parametrize("name", BROKEN)
def test_a_failure_is_remembered_and_raised_anew(zoo, name):
    registry = zoo(BROKEN[name][0])
    errors = []
    for _ in range(2):
        with pytest.raises(PluginFailed) as caught:
            registry.resolve(name)
        errors.append(caught.value)
    assert str(errors[0]) == str(errors[1])
    assert errors[0] is not errors[1]


def test_a_half_registered_plugin_is_taken_out_again(zoo):
    registry = zoo("fake-wrong-signature", "fake-wrong-hook", "fake-acme")
    for name in ("wrongsignature", "wronghook"):
        with pytest.raises(PluginFailed):
            registry.resolve(name)
    assert registry.resolve("acme") == DeviceId("acme")
    assert [plugin.__name__ for plugin in registry._host.manager.get_plugins()] == ["fake_acme"]


def test_targets_by_name_ask_no_driver(zoo):
    registry = zoo("fake-acme")
    acme = DeviceId("acme")
    known = registry.named_targets(acme)
    assert [target.arch for target in known.values()] == list(known) == ["acme-9"]
    assert registry.toolchain_for(acme, known["acme-9"]).target is known["acme-9"]
    assert registry.backend("acme").probes == 0


@pytest.mark.parametrize(("given", "reason"), [
    (["acme-9"], r"the result of targets\(\) is list, expected Mapping"),
    ({"acme-9": "acme-9"}, r"targets\(\)\['acme-9'\] is str, expected Target"),
    ({9: None}, r"a name of targets\(\) is int, expected str"),
])
def test_targets_of_a_wrong_type_are_the_plugin_s_failure(zoo, monkeypatch, given, reason):
    registry = zoo("fake-acme")
    monkeypatch.setattr(registry.backend("acme"), "targets", lambda: given)
    with pytest.raises(PluginFailed, match=reason) as caught:
        registry.named_targets(DeviceId("acme"))
    assert caught.value.phase == "target"


def test_only_the_named_plugin_is_imported(zoo):
    registry = zoo(*(set(distributions()) - {"fake-site"}))
    registry.installed()
    assert not any(module.startswith("fake_") for module in sys.modules)
    registry.resolve("acme")
    assert [module for module in sys.modules if module.startswith("fake_")] == ["fake_acme"]


def test_interrupting_an_import_is_no_failure_of_the_plugin(zoo, monkeypatch):
    registry = zoo("fake-acme")
    plugin = registry.plugin("acme")
    monkeypatch.setattr(plugin, "_import", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        registry.resolve("acme")
    monkeypatch.undo()
    assert registry.installed()[0].state == "installed"


# ---------------------------------------------------------------------------------- who owns a name


def test_a_reserved_name_claimed_by_another_distribution_is_shadowed_and_never_imported(zoo):
    registry = zoo("fake-usurper", "fake-acme")
    states = {row.name: row.state for row in registry.installed()}
    assert states == {"acme": "installed", "opencl": "shadowed"}
    with pytest.raises(UnknownDevice) as caught:
        registry.resolve("opencl")
    message = str(caught.value)
    assert message.startswith("no plugin provides device 'opencl'. Installed: acme.")
    assert "fake-usurper is not loaded: the name 'opencl' belongs to pluggrad-opencl" in message
    assert "install it:  pip install pluggrad-opencl" in message
    assert "fake_usurper" not in sys.modules


def test_two_third_parties_with_one_name_are_both_refused(zoo):
    registry = zoo("fake-twin-a", "fake-twin-b")
    with pytest.raises(DeviceUnavailable) as caught:
        registry.resolve("twin")
    assert "fake-twin-a and fake-twin-b both provide 'twin'" in str(caught.value)
    assert "PLUGGRAD_PREFER=twin=fake-twin-a" in str(caught.value)
    assert {row.state for row in registry.installed()} == {"blocked"}


def test_prefer_picks_one_of_two(zoo, settings):
    settings(PREFER="twin=fake-twin-b")
    registry = zoo("fake-twin-a", "fake-twin-b")
    registry.resolve("twin")
    assert registry.probe("twin").names == ("twin b",)
    assert [row.state for row in registry.installed()] == ["shadowed", "ready"]


def test_prefer_does_not_give_a_reserved_name_away(zoo, settings):
    settings(PREFER="opencl=fake-usurper")
    assert zoo("fake-usurper").installed()[0].state == "shadowed"


def test_another_api_major_is_diagnosed_without_importing_it(zoo):
    registry = zoo("fake-future")
    with pytest.raises(DeviceUnavailable, match="made for plugin API v2; this pluggrad has v1"):
        registry.resolve("future")
    assert registry.installed()[0].state == "incompatible"


@pytest.mark.parametrize("disabled", ["acme", "ACME", "fake-acme"])
def test_disabled_is_never_imported(zoo, settings, disabled):
    settings(DISABLE=f"other,{disabled}")
    registry = zoo("fake-acme")
    with pytest.raises(DeviceUnavailable, match="PLUGGRAD_DISABLE names it"):
        registry.resolve("acme")
    assert registry.installed()[0].state == "blocked"
    assert "fake_acme" not in sys.modules


# ------------------------------------------------------------------------------------------- devices


def test_an_absent_device_says_why_and_what_to_do(zoo):
    with pytest.raises(DeviceUnavailable) as caught:
        zoo("fake-absent").resolve("absent")
    assert str(caught.value) == ("device 'absent' (fake-absent 1.0) is unavailable: "
                                 "this device exists on paper only    try: buy one")


def test_an_index_out_of_range_says_what_there_is(zoo):
    with pytest.raises(DeviceUnavailable) as caught:
        zoo("fake-acme").resolve("acme:5")
    assert str(caught.value) == "acme:5 does not exist: fake-acme sees 2 devices (acme:0..acme:1)"


def test_a_close_match_is_suggested(zoo):
    with pytest.raises(UnknownDevice) as caught:
        zoo("fake-acme", core=True).resolve("acne")
    assert str(caught.value) == ("no plugin provides device 'acne'. Installed: acme, ref."
                                 "    did you mean 'acme'?")


def test_a_known_device_that_is_not_installed_says_how_to_install_it(zoo):
    with pytest.raises(UnknownDevice) as caught:
        zoo("fake-acme", core=True).resolve("metal:1")
    assert str(caught.value) == ("no plugin provides device 'metal'. Installed: acme, ref."
                                 "    install it:  pip install pluggrad-metal")


def test_running_from_a_tree_that_is_not_installed_is_said(zoo):
    with pytest.raises(UnknownDevice, match="runs from a source tree that is not installed"):
        zoo("fake-acme").resolve("ref")


def test_names_are_canonical_and_probed_once(zoo):
    registry = zoo("fake-acme")
    names = ["acme", "ACME", " acme:0 ", DeviceId("acme")]
    assert [registry.resolve(name) for name in names] == [DeviceId("acme")] * 4
    assert str(registry.resolve("Acme:1@S")) == "acme:1@s"
    assert registry.backend("acme").probes == 1


@pytest.mark.parametrize("name", ["", "acme:", "acme:x", "a b", "acme@", 3, [], b"acme"])
def test_what_is_no_name_is_refused(zoo, name):
    with pytest.raises(UnknownDevice):
        zoo("fake-acme").resolve(name)


def test_a_device_is_opened_once_by_all_threads(zoo):
    registry, opened = zoo("fake-acme"), []

    def open_it():
        opened.append(registry.open_device(DeviceId("acme")))

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 8
    assert len(set(map(id, opened))) == 1


def test_a_device_that_does_not_open_says_so_in_the_plugins_words(zoo):
    registry = zoo("fake-acme")
    with pytest.raises(DeviceUnavailable, match="acme:1 is used by another process"):
        registry.open_device(registry.resolve("acme:1"))
    assert registry.resolve("acme") == DeviceId("acme")


def test_close_all_closes_what_is_open(zoo):
    registry = zoo("fake-acme")
    device = registry.open_device(DeviceId("acme"))
    registry.close_all()
    assert device.closed
    assert registry.open_device(DeviceId("acme")) is not device


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_can_use_the_registry_while_a_thread_of_the_parent_holds_its_lock(zoo):
    registry = zoo("fake-acme")
    registry.resolve("acme")
    with registry._lock:
        os.register_at_fork(after_in_child=registry.after_fork)
        child = os.fork()
        if child == 0:
            threading.Thread(target=lambda: os._exit(registry.resolve("acme:1").index)).start()
            threading.Event().wait(300)
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


# ---------------------------------------------------------------------------------------- extensions


def test_an_extension_brings_a_toolchain_for_somebody_elses_device(zoo):
    registry = zoo("fake-acme", "fake-site")
    loud, plain = DeviceId("acme", 0, "loud"), DeviceId("acme")
    assert type(registry.toolchain(loud)).__name__ == "Shouting"
    assert type(registry.toolchain(plain)).__name__ == "AcmeToolchain"
    assert registry.target(loud).arch == registry.target(plain).arch + "-loud"
    assert registry.open_device(loud) is registry.open_device(plain)


def test_observers_hear_that_a_device_was_opened(zoo):
    registry = zoo("fake-acme", "fake-site")
    assert registry.hooks("pluggrad_kernel_compiled") is None
    assert registry.hooks("pluggrad_device_opened") is not None
    registry.open_device(DeviceId("acme"))
    assert sys.modules["fake_site"].opened == ["acme-0"]


def test_an_observer_that_fails_takes_no_device_away(zoo):
    from pluggrad.plugin_api import hookimpl

    class Clumsy:
        @hookimpl
        def pluggrad_device_opened(self, device):
            raise RuntimeError("oops")

    registry = zoo("fake-acme", "fake-site")
    registry.load_extensions()
    registry.add_observer(Clumsy())
    message = "this process is left out of pluggrad_device_opened: RuntimeError: oops"
    with pytest.warns(UserWarning, match=message):
        assert registry.open_device(DeviceId("acme")).target.arch == "acme-0"
    assert sys.modules["fake_site"].opened == ["acme-0"], "the next one is told all the same"


def test_an_observer_that_failed_is_not_called_again(zoo):
    from pluggrad.plugin_api import hookimpl

    calls = []

    class Clumsy:
        @hookimpl
        def pluggrad_kernel_finished(self, event):
            calls.append(event)
            raise RuntimeError("oops")

    registry, clumsy = zoo("fake-acme"), Clumsy()
    registry.add_observer(clumsy)
    assert registry.observed
    with pytest.warns(UserWarning, match="left out of pluggrad_kernel_finished"):
        registry.tell("pluggrad_kernel_finished", event="first")
    registry.tell("pluggrad_kernel_finished", event="second")
    assert calls == ["first"]
    assert not registry.observed
    registry.remove_observer(clumsy)
    registry.add_observer(clumsy)
    assert registry.observed


def test_a_broken_extension_is_skipped_with_one_warning(zoo, tmp_path, settings):
    registry = zoo("fake-acme", "fake-site")
    (tmp_path / "site" / "fake_site" / "__init__.py").write_text("raise OSError('no')")
    settings(DEVICE="acme")
    with pytest.warns(UserWarning, match=r"extension 'site' \(fake-site 1.0\) failed at import: OSError: no"):
        registry.hooks("pluggrad_device_opened")
    assert registry.resolve(None) == DeviceId("acme")


def test_resolving_a_known_name_takes_less_than_a_microsecond(zoo):
    from timeit import repeat

    registry = zoo("fake-acme")
    device = registry.resolve("acme")
    registry.set_default("acme")
    for name in ("acme", device, None):
        seconds = min(repeat(lambda name=name: registry.resolve(name), number=1000, repeat=30)) / 1000
        assert seconds < 1e-6, name


def test_every_fake_is_a_complete_distribution(tmp_path):
    for name in distributions():
        install(tmp_path, name)
    registry = Registry([str(tmp_path)])
    assert len(registry.entries()) == len(distributions())
    assert pickle.loads(pickle.dumps(registry.entries())) == registry.entries()
