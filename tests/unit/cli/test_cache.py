"""`python -m pluggrad cache`."""

from __future__ import annotations

import pytest

from pluggrad import cli, config
from pluggrad.runtime import cache


@pytest.fixture
def folder(fresh_cache):
    config.reload()
    yield fresh_cache
    config.reload()


def test_info_counts_entries_and_clear_deletes_them(folder, capsys):
    cache.store("kernel", "a", b"one")
    cache.store("blob", "b", b"two")
    assert cli.main(["cache", "info"]) == 0
    assert capsys.readouterr().out.startswith(f"{folder}\nentries: 2, 0.0 MiB of at most 1024 MiB\n")
    assert cli.main(["cache", "clear"]) == 0
    assert capsys.readouterr().out == f"entries deleted: 2, from {folder}\n"
    assert list(folder.iterdir()) == []


def test_a_cache_that_is_off_is_left_alone(folder, capsys, monkeypatch):
    cache.store("kernel", "a", b"one")
    monkeypatch.setenv("PLUGGRAD_CACHE", "0")
    config.reload()
    assert cli.main(["cache", "clear"]) == 0
    assert "nothing deleted" in capsys.readouterr().out
    assert len(list(folder.iterdir())) == 1
    cli.main(["cache", "info"])
    assert capsys.readouterr().out.endswith("not in use: PLUGGRAD_CACHE=0\n")


def test_an_action_is_needed():
    with pytest.raises(SystemExit) as stopped:
        cli.main(["cache"])
    assert stopped.value.code == 2
