"""Which device is meant when nobody names one."""

from __future__ import annotations

import signal
import sys
import threading
import warnings

import pytest

from pluggrad.device.contract import Probe
from pluggrad.errors import DeviceUnavailable, PluggradWarning, PluginFailed, UnknownDevice
from pluggrad.target import DeviceId

CHOOSE = "from pluggrad.device.registry import REGISTRY as r; print(r.resolve(None), '|', r.default_reason())"


def test_the_highest_tier_that_works_then_the_alphabet(zoo):
    registry = zoo("fake-acme", "fake-absent", "fake-twin-a")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an absent device is no reason to warn
        assert registry.resolve(None) == DeviceId("acme")
    assert registry.default_reason() == "highest tier that works (20)"


def test_a_device_below_the_chosen_one_is_not_probed(zoo):
    registry = zoo("fake-acme", "fake-twin-a")
    registry.resolve(None)
    states = {row.name: row.state for row in registry.installed()}
    assert states == {"acme": "ready", "twin": "installed"}


def test_what_a_probe_finds_may_rank_lower_than_its_backend(zoo):
    registry = zoo("fake-acme", "fake-twin-a")
    registry.backend("acme").probe = lambda: Probe(1, ("an emulator",), tier=5)
    assert registry.resolve(None) == DeviceId("twin")
    assert registry.available() == ("twin", "acme")


def test_what_ranks_low_is_chosen_where_there_is_nothing_else(zoo):
    registry = zoo("fake-acme", "fake-absent")
    registry.backend("acme").probe = lambda: Probe(1, ("an emulator",), tier=5)
    assert registry.resolve(None) == DeviceId("acme")
    assert registry.default_reason() == "highest tier that works (5)"


def test_a_failed_plugin_warns_once_and_is_passed_over(zoo):
    registry = zoo("fake-acme", "fake-import-error")
    with pytest.warns(PluggradWarning, match="device 'importerror'") as caught:
        assert registry.resolve(None) == DeviceId("acme")
    assert caught[0].filename == __file__
    registry.set_default(None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert registry.resolve(None) == DeviceId("acme")


def test_nothing_at_all_says_so(zoo):
    with pytest.raises(DeviceUnavailable, match="pluggrad's own entry points are not visible"):
        zoo("fake-absent").resolve(None)


def test_an_explicit_choice_goes_before_everything(zoo, settings):
    settings(DEVICE="twin")
    registry = zoo("fake-acme", "fake-twin-a", "fake-heavy")
    assert registry.resolve(None) == DeviceId("twin")
    registry.set_default("heavy")
    assert (registry.resolve(None), registry.default_reason()) == (DeviceId("heavy"), "set_default_device")
    with registry.scoped("acme:1") as device:
        assert registry.resolve(None) == device == DeviceId("acme", 1)
        with registry.scoped("twin"):
            assert registry.resolve(None) == DeviceId("twin")
        assert registry.resolve(None) == device
    assert registry.resolve(None) == DeviceId("heavy")
    registry.set_default(None)
    assert registry.resolve(None) == DeviceId("twin")


def test_a_block_chooses_for_its_own_thread(zoo):
    registry, seen = zoo("fake-acme", "fake-twin-a"), []
    registry.set_default("twin")
    with registry.scoped("acme"):
        thread = threading.Thread(target=lambda: seen.append(registry.resolve(None)))
        thread.start()
        thread.join()
    assert seen == [DeviceId("twin")]


def test_an_unusable_default_is_refused_and_nothing_changes(zoo):
    registry = zoo("fake-acme", "fake-absent")
    registry.set_default("acme")
    with pytest.raises(DeviceUnavailable):
        registry.set_default("absent")
    with pytest.raises(UnknownDevice), registry.scoped("nobody"):
        pass
    assert registry.resolve(None) == DeviceId("acme")


# ------------------------------------------------------------------------------------ PLUGGRAD_DEVICE


@pytest.mark.parametrize(("name", "error"), [("absent", DeviceUnavailable), ("importerror", PluginFailed),
                                             ("nobody", UnknownDevice), ("acme:2", DeviceUnavailable)])
def test_a_single_name_never_falls_back(zoo, settings, name, error):
    settings(DEVICE=name)
    registry = zoo("fake-acme", "fake-absent", "fake-import-error")
    with pytest.raises(error):
        registry.resolve(None)


def test_a_list_takes_the_first_that_opens_and_warns_for_each_skip(zoo, settings):
    settings(DEVICE="absent, nobody, acme:1, importerror, acme")
    registry = zoo("fake-acme", "fake-absent", "fake-import-error")
    with pytest.warns(PluggradWarning) as caught:
        assert registry.resolve(None) == DeviceId("acme")
    texts = [str(warning.message) for warning in caught]
    skipped = ("absent", "nobody", "acme:1", "importerror")
    assert [text.partition(":")[0] for text in texts] == [
        f"PLUGGRAD_DEVICE skips '{name}'".partition(":")[0] for name in skipped]
    assert "buy one" in texts[0]
    assert "used by another process" in texts[2]


def test_a_list_of_which_none_opens_names_every_reason(zoo, settings):
    settings(DEVICE="absent,acme:1")
    registry = zoo("fake-acme", "fake-absent")
    with pytest.warns(PluggradWarning), pytest.raises(DeviceUnavailable) as caught:
        registry.resolve(None)
    assert "on paper only" in str(caught.value)
    assert "used by another process" in str(caught.value)


# ------------------------------------------------------------------------------------------- policy


def test_a_sites_policy_chooses_among_what_works(zoo):
    registry = zoo("fake-acme", "fake-twin-a", "fake-site")
    assert registry.resolve(None) == DeviceId("twin")
    assert registry.default_reason() == "the policy of fake-site 1.0"


def test_a_policy_without_an_opinion_leaves_the_tier(zoo):
    assert zoo("fake-acme", "fake-site").resolve(None) == DeviceId("acme")


@pytest.mark.parametrize(("code", "message"), [
    ("return 'absent'", r"chose 'absent': device 'absent' \(fake-absent 1\.0\) is unavailable: this device"),
    ("return 'nobody'", "chose 'nobody': no plugin provides device 'nobody'"),
    ("return 'acme:7'", "chose 'acme:7': acme:7 does not exist"),
    ("return 7", "chose 7: device: expected a device name, got 7"),
    ("raise OSError('no')", "OSError: no"),
])
def test_a_broken_policy_is_passed_over_with_a_warning(zoo, tmp_path, code, message):
    registry = zoo("fake-acme", "fake-absent", "fake-site")
    (tmp_path / "site" / "fake_site" / "__init__.py").write_text(
        "from pluggrad.plugin_api import hookimpl\n"
        f"@hookimpl\ndef pluggrad_choose_default(candidates):\n    {code}\n")
    with pytest.warns(PluggradWarning, match=rf"the policy of fake-site 1\.0 is passed over.*{message}"):
        assert registry.resolve(None) == DeviceId("acme")


def test_a_policy_may_name_one_of_several_devices(zoo, tmp_path):
    registry = zoo("fake-acme", "fake-site")
    (tmp_path / "site" / "fake_site" / "__init__.py").write_text(
        "from pluggrad.plugin_api import hookimpl\n"
        "@hookimpl\ndef pluggrad_choose_default(candidates):\n    return 'acme:1'\n")
    assert registry.resolve(None) == DeviceId("acme", 1)


# ------------------------------------------------------------------------------- core's own, and crashes


def others_installed() -> str:
    """Every installed device of another distribution than core, for PLUGGRAD_DISABLE."""
    from importlib.metadata import entry_points

    points = entry_points(group="pluggrad.devices.v1")
    return ",".join(point.name for point in points if point.value.partition(".")[0] != "pluggrad")


def test_the_reference_device_is_used_when_there_is_nothing_else_with_one_warning(run):
    result = run("-c", CHOOSE, DISABLE=others_installed())
    assert result.stdout == "ref | highest tier that works (0)\n"
    assert result.stderr.count("PluggradWarning") == 1
    assert "no compiled device is installed: pip install pluggrad-cpu" in result.stderr


def test_a_compiled_device_that_does_not_work_is_not_called_missing(run):
    result = run("-c", CHOOSE, plugins=("fake-absent",), DISABLE=others_installed())
    assert result.stdout.startswith("ref |")
    assert "no compiled device works here; 'ref' is slow." in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_plugin_that_killed_a_process_is_skipped_by_the_next_and_lifted_when_it_is_mended(run, tmp_path):
    plugins = ("fake-acme", "fake-segfault")
    crashed = run("-c", CHOOSE, plugins=plugins)
    assert crashed.returncode == -signal.SIGSEGV
    second = run("-c", CHOOSE, plugins=plugins)
    assert second.stdout == "acme | highest tier that works (20)\n"
    assert "device 'segfault' (fake-segfault 1.0) is skipped: process " in second.stderr
    assert "died while probing it.    try: python -m pluggrad devices" in second.stderr
    module = tmp_path / "site" / "fake_segfault" / "__init__.py"
    mended = module.read_text().replace("ctypes.string_at(0)", "pass")
    run("-m", "pluggrad", "devices", plugins=plugins)  # it still crashes: nothing is lifted
    assert run("-c", CHOOSE, plugins=plugins).stdout.startswith("acme")
    module.write_text(mended)
    listed = run("-m", "pluggrad", "devices")
    assert "* default: segfault" in listed.stdout.replace("*  ", "* ")
    assert run("-c", CHOOSE).stdout.startswith("segfault")


def test_an_explicit_name_is_tried_although_a_process_died(zoo, fresh_cache):
    registry = zoo("fake-acme")
    entry = registry.entries()[0]
    from pluggrad.device import markers

    folder = fresh_cache / "probing"
    folder.mkdir()
    note = f'{{"pid": 999999999, "host": "{markers._host()}", "version": "{entry.version}"}}'
    (folder / "acme.fake-acme.999999999.json").write_text(note)
    assert markers.died(entry) == 999999999
    assert registry.resolve("acme") == DeviceId("acme")
    assert markers.died(entry) is None
