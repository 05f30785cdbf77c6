"""`pluggrad_kernel_finished`: an observer of kernels; and that a broken one breaks no computation."""
from __future__ import annotations

import pytest

from tests.fake_plugins.install import write_metadata

COMPUTE = """
from pluggrad import Tensor
from pluggrad.device.registry import REGISTRY
x = Tensor([1.0, 2.0, 3.0], device="ref").realize()
for _ in range(3):
    print((x * 2).sum().item())
print(REGISTRY.observed)
"""
RESULTS = ["12.0"] * 3


def test_each_kernel_has_its_runs_and_its_time(run, tmp_path):
    result = run("-c", COMPUTE, extensions=("pluggrad-kernel-log",), KERNEL_LOG=str(tmp_path / "log"))
    assert result.stdout.split() == [*RESULTS, "True"]
    heading, row = (tmp_path / "log").read_text().splitlines()
    assert heading.split() == ["us", "runs", "device", "kernel"]
    microseconds, *rest = row.split()
    assert rest == ["3", "ref", "sum"]
    assert float(microseconds) > 0


def test_nothing_is_observed_that_nobody_asked_for(run):
    result = run("-c", COMPUTE, extensions=("pluggrad-kernel-log",))
    assert (result.stdout.split(), result.stderr) == ([*RESULTS, "False"], "")


HOOK = "from pluggrad.plugin_api import hookimpl\n@hookimpl\ndef "
BROKEN = {
    "raises": (HOOK + "pluggrad_kernel_finished(event):\n    raise OSError('full')",
               "acme-watch 1.0 is left out of pluggrad_kernel_finished: OSError: full"),
    "wrong signature": (HOOK + "pluggrad_kernel_finished(kernel, time):\n    pass",
                        "extension 'watch' (acme-watch 1.0) failed at register"),
    "wrong name": (HOOK + "pluggrad_kernel_done(event):\n    pass",
                   "did you mean 'pluggrad_kernel_finished'?"),
    "no import": ("import a_package_that_nobody_has", "failed at import: ModuleNotFoundError"),
    "raises when imported": ("raise RuntimeError('no')", "failed at import: RuntimeError: no"),
    "exits when imported": ("raise SystemExit(3)", "failed at import: SystemExit: 3"),
    "raises at compile": (HOOK + "pluggrad_kernel_compiled(event):\n    raise OSError('full')",
                          "left out of pluggrad_kernel_compiled: OSError: full"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_observer_is_warned_about_once_and_left_out(run, tmp_path, case):
    code, message = BROKEN[case]
    folder = tmp_path / "site" / "acme_watch"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(code + "\n")
    write_metadata(folder.parent, "acme-watch", "1.0", {"pluggrad.extensions.v1": {"watch": "acme_watch"}})
    result = run("-c", COMPUTE)
    assert result.stdout.split() == [*RESULTS, "False"], result.stderr
    assert message in result.stderr
    assert result.stderr.count("PluggradWarning") == 1


def test_a_heavy_import_waits_for_the_first_device(run, tmp_path):
    folder = tmp_path / "site" / "acme_watch"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("print('loaded')\n")
    write_metadata(folder.parent, "acme-watch", "1.0", {"pluggrad.extensions.v1": {"watch": "acme_watch"}})
    result = run("-c", "import pluggrad; print('imported'); pluggrad.Tensor([1.0], device='ref').tolist()")
    assert result.stdout.split() == ["imported", "loaded"]
