"""Downloads: checked, kept once, and never kept when wrong. The network is a folder."""

from __future__ import annotations

import hashlib

import pytest

from pluggrad.data.download import fetch
from pluggrad.errors import FileFormatError

CONTENT = b"digits" * 100_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def mirror(tmp_path):
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / "file.gz").write_bytes(CONTENT)
    return folder


def url(folder) -> str:
    return folder.as_uri() + "/"


def test_a_file_is_fetched_once(tmp_path, mirror):
    cache = tmp_path / "cache" / "deep"
    path = fetch([url(mirror)], "file.gz", SHA256, cache)
    assert path.read_bytes() == CONTENT
    (mirror / "file.gz").unlink()
    assert fetch([url(mirror)], "file.gz", SHA256, cache) == path


def test_the_next_mirror_is_asked(tmp_path, mirror):
    path = fetch([url(tmp_path / "nowhere"), url(mirror)], "file.gz", SHA256, tmp_path / "cache")
    assert path.read_bytes() == CONTENT


def test_no_mirror_answers(tmp_path):
    with pytest.raises(ConnectionError, match=r"file\.gz failed.*nowhere.*pass its folder"):
        fetch([url(tmp_path / "nowhere")], "file.gz", SHA256, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_another_checksum_is_refused_and_nothing_is_kept(tmp_path, mirror):
    (mirror / "file.gz").write_bytes(CONTENT + b"!")
    with pytest.raises(FileFormatError, match=r"file\.gz.*expected SHA-256"):
        fetch([url(mirror)], "file.gz", SHA256, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_damaged_file_in_the_cache_is_fetched_again(tmp_path, mirror):
    cache = tmp_path / "cache"
    fetch([url(mirror)], "file.gz", SHA256, cache).write_bytes(CONTENT[:-1])
    assert fetch([url(mirror)], "file.gz", SHA256, cache).read_bytes() == CONTENT


def test_the_bar_stays_quiet_without_a_terminal(tmp_path, mirror, capsys):
    fetch([url(mirror)], "file.gz", SHA256, tmp_path / "cache")
    assert capsys.readouterr() == ("", "")
