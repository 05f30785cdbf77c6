"""Settings: types, where a value comes from, blocks, cache keys."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from pluggrad import config
from pluggrad.config import Context, Setting
from pluggrad.errors import ValueRangeError


@pytest.fixture
def environment(monkeypatch):
    """`environment(DEBUG="2")` sets PLUGGRAD_ variables and reads them again."""

    def change(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"PLUGGRAD_{name}", value)
        config.reload()

    yield change
    monkeypatch.undo()
    config.reload()


@pytest.fixture
def declare():
    """`declare(...)` declares a setting for one test."""
    before = dict(config._SETTINGS)
    yield Setting
    config._SETTINGS.clear()
    config._SETTINGS.update(before)


@pytest.mark.parametrize(("name", "text", "value"), [
    ("DEBUG", "3", 3), ("SYNC", "1", True), ("SYNC", "off", False), ("SYNC", "", False),
    ("CACHE_DIR", "/x y", "/x y"), ("DEVICE", "a, b ,,c", ("a", "b", "c")), ("DEVICE", "", ()),
])
def test_the_environment_is_read_in_the_settings_type(environment, name, text, value):
    environment(**{name: text})
    setting = config.setting(name)
    assert (setting.value, setting.source) == (value, "environment")


@pytest.mark.parametrize(("name", "text", "expected"), [
    ("DEBUG", "loud", "PLUGGRAD_DEBUG: expected an integer, got 'loud'"),
    ("DEBUG", "-1", "PLUGGRAD_DEBUG: expected at least 0, got -1"),
    ("SYNC", "maybe", "PLUGGRAD_SYNC: expected 0 or 1, got 'maybe'"),
])
def test_a_value_of_the_wrong_type_is_refused(environment, name, text, expected):
    environment(**{name: text})
    with pytest.raises(ValueRangeError) as caught:
        assert config.setting(name).value
    assert str(caught.value) == expected


def test_the_environment_is_read_once(environment, monkeypatch):
    environment(DEBUG="1")
    assert config.DEBUG.value == 1
    monkeypatch.setenv("PLUGGRAD_DEBUG", "2")
    assert config.DEBUG.value == 1
    config.reload()
    assert config.DEBUG.value == 2


def test_a_block_changes_settings_and_gives_them_back(environment):
    environment(DEBUG="1")
    with Context(DEBUG=2, SYNC=1):
        assert (config.DEBUG.value, config.DEBUG.source, config.SYNC.value) == (2, "context", True)
        with Context(DEBUG=3):
            assert (config.DEBUG.value, config.SYNC.value) == (3, True)
        assert config.DEBUG.value == 2
    assert (config.DEBUG.value, config.SYNC.value) == (1, False)


def test_a_block_gives_settings_back_after_an_exception_and_may_be_entered_again():
    block = Context(SYNC=1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), block:
            1 / (1 - config.SYNC.value)
        assert not config.SYNC.value


def test_a_block_as_decorator():
    @Context(DEBUG=4)
    def level() -> int:
        return config.DEBUG.value

    assert (level(), config.DEBUG.value) == (4, 0)


def test_a_block_holds_in_its_own_thread():
    seen = []
    with Context(DEBUG=2):
        thread = threading.Thread(target=lambda: seen.append(config.DEBUG.value))
        thread.start()
        thread.join()
    assert seen == [0]


@pytest.mark.parametrize(("settings", "message"), [
    ({"DEBUGG": 1}, "did you mean DEBUG?"), ({"DEBUG": "2"}, "expected an integer, got '2'"),
    ({"DEBUG": True}, "expected an integer, got True"), ({"SYNC": 2}, "expected 0 or 1, got 2"),
    ({"DEVICE": "x"}, "`with device(name):` selects a device"), ({"CACHE": 0}, "set PLUGGRAD_CACHE in the"),
])
def test_a_block_refuses_what_it_cannot_set(settings, message):
    with pytest.raises(ValueRangeError) as caught:
        Context(**settings)
    assert message in str(caught.value)


def test_only_settings_that_change_code_are_part_of_keys(declare):
    declare("ACME_UNROLL", bool, False, "unroll loops", keyed=True)
    plain = config.key()
    with Context(DEBUG=3, SYNC=1, VALIDATE=1, VERIFY=1):
        assert config.key() == plain
    with Context(ACME_UNROLL=1):
        assert config.key() != plain


def test_a_plugin_declares_settings_of_its_own(environment, declare):
    environment(ACME_THREADS="6")
    assert "PLUGGRAD_ACME_THREADS" in config.undeclared()
    threads = declare("ACME_THREADS", int, 0, "workers", keyed=True)
    assert threads.value == 6
    assert ("ACME_THREADS", 6) in config.key()
    assert "PLUGGRAD_ACME_THREADS" not in config.undeclared()
    with Context(ACME_THREADS=2):
        assert threads.value == 2
    declare("ACME_THREADS", int, 0, "the same again, as when a module is imported anew")
    with pytest.raises(ValueRangeError, match="begin a plugin's settings with its name"):
        declare("ACME_THREADS", bool, False, "another one")


def test_show_config_lists_every_setting(capsys, environment):
    environment(DEBUG="2")
    config.show_config()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(config.settings())
    assert any(line.split()[:3] == ["PLUGGRAD_DEBUG", "2", "environment"] for line in lines)
    assert all(setting.doc in "\n".join(lines) for setting in config.settings())


def test_the_cache_folder(environment, monkeypatch, tmp_path):
    environment(CACHE_DIR=str(tmp_path))
    assert config.cache_dir() == tmp_path
    environment(CACHE_DIR="")
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for platform, folder in (("linux", ".cache/pluggrad"), ("darwin", "Library/Caches/pluggrad")):
        monkeypatch.setattr(sys, "platform", platform)
        assert config.cache_dir() == Path("/home/somebody") / folder
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert config.cache_dir() == Path("/local/pluggrad/cache")


def test_a_summary_follows_settings(monkeypatch):
    told = config.Summary(lambda: (config.DEBUG.value, config.SYNC.value))
    assert told() == (0, False)
    with Context(DEBUG=2):
        assert told() == (2, False)
    assert told() == (0, False)
    monkeypatch.setenv("PLUGGRAD_SYNC", "1")
    assert told() == (0, False)
    config.reload()
    assert told() == (0, True)
    config.SYNC.assign(False)
    assert told() == (0, False)
    monkeypatch.undo()
    config.reload()
