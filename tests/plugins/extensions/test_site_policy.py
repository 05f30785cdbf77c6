"""`pluggrad_choose_default`: the device that a host uses when nobody names one."""
from __future__ import annotations

import socket

import pytest

POLICY = ("pluggrad-site-policy", "pluggrad-npblas")
CHOOSE = "import pluggrad; print(pluggrad.default_device())"


@pytest.fixture
def chosen(run, tmp_path):
    """`chosen(rules)` is what a new process chooses under these rules, and its process."""
    def choose(rules: str, **variables: str) -> tuple[str, object]:
        (tmp_path / "rules").write_text(rules)
        result = run("-c", CHOOSE, extensions=POLICY, SITE_POLICY=str(tmp_path / "rules"), **variables)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip(), result

    return choose


@pytest.mark.parametrize(("rules", "device"), [
    ("* npblas", "npblas"),
    (f"{socket.gethostname()} ref", "ref"),
    ("nobody* ref\n*  npblas  # everybody else", "npblas"),
    ("* nothing:3 ref", "ref"),
], ids=["any", "by name", "second line", "second device"])
def test_the_first_line_that_fits_decides(chosen, rules, device):
    assert chosen(rules)[0] == device


@pytest.mark.parametrize("rules", ["", "# nothing", "nobody* ref", "* nothing:3"])
def test_without_an_opinion_the_tier_decides(chosen, run, rules):
    assert chosen(rules)[0] == run("-c", CHOOSE, extensions=("pluggrad-npblas",)).stdout.strip()


def test_who_names_a_device_is_not_overruled(chosen):
    assert chosen("* npblas", PLUGGRAD_DEVICE="ref")[0] == "ref"


def test_the_list_of_devices_says_who_chose(run, tmp_path):
    (tmp_path / "rules").write_text("* npblas")
    result = run("-m", "pluggrad", "devices", extensions=POLICY, SITE_POLICY=str(tmp_path / "rules"))
    assert result.stdout.splitlines()[-1] == "* default: npblas: the policy of pluggrad-site-policy 1.0"


@pytest.mark.parametrize(("rules", "message"), [
    ("* ref:3", ", since it chose 'ref:3': ref:3 does not exist"),
    (None, ": FileNotFoundError"),
])
def test_a_policy_that_does_not_work_is_passed_over_and_said_so(run, tmp_path, rules, message):
    path = tmp_path / "rules"
    if rules is not None:
        path.write_text(rules)
    result = run("-c", CHOOSE, extensions=POLICY, SITE_POLICY=str(path))
    assert result.stdout.strip()
    assert f"the policy of pluggrad-site-policy 1.0 is passed over{message}" in result.stderr
    assert result.stderr.count("PluggradWarning") == 1
