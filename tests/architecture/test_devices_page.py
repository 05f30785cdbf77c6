"""docs/devices.md tells of every error about devices, in the words that they have."""

from __future__ import annotations

import pytest

from pluggrad import config, dtypes, errors, runtime
from pluggrad.device.registry import Registry
from pluggrad.errors import DeviceError, PluggradError
from pluggrad.graph import build
from pluggrad.target import Capabilities, DeviceId, Target
from tests.architecture.source import ROOT
from tests.fake_plugins.install import install

PAGE = (ROOT / "docs" / "devices.md").read_text(encoding="utf-8")
POOR = Target("poor", Capabilities(frozenset({"float32"}), frozenset({"float32"})))


def subclasses(kind: type) -> set[str]:
    return {kind.__name__}.union(*map(subclasses, kind.__subclasses__()))


def test_every_error_about_devices_is_listed():
    public = {name for name in subclasses(DeviceError) if hasattr(errors, name)}
    assert {name for name in public if f"`{name}`" not in PAGE and f".{name}`" not in PAGE} == set()


def mixed() -> None:
    build.same_device("add", *[build.const(1.0, dtypes.float32, DeviceId(name)) for name in "ab"])


def asked(name: str, *plugins: str, **variables: str):
    """Resolving a name where these fake plugins are installed."""

    def resolve(folder, monkeypatch) -> None:
        for variable, value in variables.items():
            monkeypatch.setenv(f"PLUGGRAD_{variable}", value)
        config.reload()
        monkeypatch.syspath_prepend(str(install(folder, *plugins)))
        Registry([str(folder)]).resolve(name)

    return resolve


# what stands in a message, and on the page, and what raises it
MESSAGES = [
    ("no plugin provides device 'metal'. Installed: ", asked("metal", "fake-acme")),
    ("install it:  pip install ", asked("metal", "fake-acme")),
    ("did you mean ", asked("acmee", "fake-acme")),
    ("device: expected type[:index][@variant], got ", asked("?")),
    (" is unavailable: ", asked("absent", "fake-absent")),
    (" does not exist: ", asked("acme:9", "fake-acme")),
    (" is unavailable: PLUGGRAD_DISABLE names it", asked("acme", "fake-acme", DISABLE="acme")),
    (" both provide ", asked("twin", "fake-twin-a", "fake-twin-b")),
    (" failed at import: ", asked("importerror", "fake-import-error")),
    ("none of PLUGGRAD_DEVICE=", asked(None, "fake-absent", DEVICE="absent,nobody")),
]


@pytest.fixture
def settings(monkeypatch):
    yield monkeypatch
    monkeypatch.undo()
    config.reload()


@pytest.mark.filterwarnings("ignore::pluggrad.errors.PluggradWarning")
@pytest.mark.parametrize(("text", "raises"), MESSAGES, ids=[text for text, _ in MESSAGES])
def test_the_page_has_the_messages_of_discovery(text, raises, tmp_path, settings):
    with pytest.raises(DeviceError) as caught:
        raises(tmp_path, settings)
    assert text in str(caught.value)
    assert text in PAGE


@pytest.mark.parametrize(("text", "raises"), [
    ("expected operands on one device, got ", mixed),
    (". Cast it first: x.cast('float32').to(",
     lambda: runtime.require_dtype(DeviceId("poor"), dtypes.float64, POOR)),
])  # fmt: skip
def test_the_page_has_the_messages_of_operations(text, raises):
    with pytest.raises(PluggradError) as caught:
        raises()
    assert text in str(caught.value)
    assert text in PAGE
