"""Entry points as metadata: which are found, and the verdict on each. Nothing here can be imported."""

from __future__ import annotations

import sys

import pytest

from pluggrad import config
from pluggrad.device.discovery import discover
from tests.fake_plugins.install import write_metadata

V1, V2 = "pluggrad.devices.v1", "pluggrad.devices.v2"


@pytest.fixture
def verdicts(tmp_path):
    """`verdicts({distribution: {group: {name: value}}})`: {(name, owner, major): verdict}."""

    def find(installed):
        for name, groups in installed.items():
            write_metadata(tmp_path, name, "1.0", groups)
        return {(e.name, e.distribution, e.major): e.verdict for e in discover([str(tmp_path)])}

    return find


def test_names_are_lower_case_and_values_stay(verdicts, tmp_path):
    found = verdicts({"Acme_Plugin": {V1: {"Acme": "acme.plugin"}}})
    assert found == {("acme", "acme-plugin", 1): "loadable"}
    assert discover([str(tmp_path)])[0].value == "acme.plugin"


def test_other_groups_and_distributions_are_none_of_ours(verdicts):
    found = verdicts({"a": {"console_scripts": {"x": "y:z"}}, "b": {"pluggrad.other": {"x": "y"}},
                      "c": {"pluggrad.devices": {"x": "y"}}, "d": {V1: {"ok": "y"}, "pytest11": {"x": "y"}}})
    assert found == {("ok", "d", 1): "loadable"}


def test_the_earlier_folder_wins_as_for_imports(tmp_path):
    for folder, version in (("first", "2.0"), ("second", "1.0")):
        write_metadata(tmp_path / folder, "acme", version, {V1: {"acme": folder}})
    found = discover([str(tmp_path / "first"), str(tmp_path / "second")])
    assert [(entry.version, entry.value) for entry in found] == [("2.0", "first")]


@pytest.mark.parametrize(("owner", "verdict"), [("pluggrad-cuda", "loadable"), ("Pluggrad_Cuda", "loadable"),
                                                ("cuda-fast", "shadowed")])
def test_a_reserved_name_is_its_distributions(verdicts, owner, verdict):
    assert list(verdicts({owner: {V1: {"cuda": "x"}}}).values()) == [verdict]


def test_a_claimant_does_not_harm_the_owner(verdicts):
    found = verdicts({"pluggrad-cuda": {V1: {"cuda": "x"}}, "thief": {V1: {"cuda": "y"}}})
    assert found == {("cuda", "pluggrad-cuda", 1): "loadable", ("cuda", "thief", 1): "shadowed"}


def test_a_distribution_that_serves_two_majors_is_no_problem(verdicts):
    found = verdicts({"acme": {V1: {"acme": "x"}, V2: {"acme": "y"}}, "old": {V2: {"late": "y"}}})
    assert found == {("acme", "acme", 1): "loadable", ("late", "old", 2): "incompatible"}


def test_rivals_of_different_majors_do_not_collide(verdicts):
    found = verdicts({"a": {V1: {"x": "m"}}, "b": {V2: {"x": "m"}}})
    assert found == {("x", "a", 1): "loadable", ("x", "b", 2): "incompatible"}


def test_two_names_of_one_distribution_and_two_of_one_module(verdicts):
    found = verdicts({"acme": {V1: {"one": "acme.plugin", "two": "acme.plugin"}}})
    assert set(found.values()) == {"loadable"}


@pytest.mark.parametrize("name", ["1st", "a b", "a:1", "a@b", "ä"])
def test_an_entry_point_that_is_no_device_name_is_a_failed_row(verdicts, name):
    assert list(verdicts({"acme": {V1: {name: "x"}}}).values()) == ["failed"]


def test_damaged_metadata_hides_no_other_plugin(tmp_path):
    info = write_metadata(tmp_path, "broken", "1.0", {V1: {"x": "m"}})
    (info / "entry_points.txt").write_text("[pluggrad.devices.v1]\nno equals sign\n[")
    write_metadata(tmp_path, "fine", "1.0", {V1: {"fine": "m"}})
    nameless = write_metadata(tmp_path, "nameless", "1.0", {V1: {"anon": "m"}})
    (nameless / "METADATA").unlink()
    found = {entry.name: entry.verdict for entry in discover([str(tmp_path)])}
    assert found["fine"] == "loadable"


def test_preferring_a_distribution_that_is_not_there_changes_nothing(verdicts, monkeypatch):
    monkeypatch.setenv("PLUGGRAD_PREFER", "x=c,nonsense")
    config.PREFER.forget()
    try:
        found = verdicts({"a": {V1: {"x": "m"}}, "b": {V1: {"x": "m"}}})
    finally:
        monkeypatch.undo()
        config.PREFER.forget()
    assert set(found.values()) == {"blocked"}


def test_looking_is_quick_and_imports_nothing(tmp_path):
    for number in range(200):
        write_metadata(tmp_path, f"other{number}", "1.0", {"console_scripts": {"x": "y:z"}})
    write_metadata(tmp_path, "acme", "1.0", {V1: {"acme": "json.tool"}})
    sys.modules.pop("json.tool", None)
    assert len(discover([str(tmp_path)])) == 1
    assert "json.tool" not in sys.modules
