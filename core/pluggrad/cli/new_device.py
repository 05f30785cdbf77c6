"""`python -m pluggrad new-device NAME`: a distribution with a device of one's own, which works as written."""
from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from pluggrad.device.names import known_devices
from pluggrad.device.registry import REGISTRY
from pluggrad.errors import UserError, ValueRangeError

_NAME: Final = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
_SUFFIX: Final = ".template"  # keeps tools from taking the files for a part of pluggrad


def main(arguments: Sequence[str]) -> int:
    """Write the distribution and say what to do next."""
    parser = argparse.ArgumentParser(prog="python -m pluggrad new-device", description=__doc__)
    parser.add_argument("name", metavar="NAME", help="the device's name, as in device=\"NAME\"")
    parser.add_argument("--folder", type=Path, metavar="DIR",
                        help="the folder to make (default: pluggrad-NAME, here)")
    options = parser.parse_args(arguments)
    folder = options.folder or Path(f"pluggrad-{options.name}")
    check_name(options.name)
    for path in write(options.name, folder):
        print(f"wrote {path}")
    print(f"\nnext:\n  pip install -e {folder}\n  python -m pluggrad devices\n"
          f"  python -m pluggrad conformance {options.name}")
    return 0


def check_name(name: str) -> None:
    """ValueRangeError for what is no device name, belongs to somebody, or means something else already."""
    if not _NAME.fullmatch(name):
        words = re.findall(r"[a-z0-9]+", name.lower().lstrip("0123456789_-"))
        raise ValueRangeError(
            op="new-device", expected="lower-case letters and digits, words joined by - or _, a letter first",
            got=repr(name), hint=f"Try '{'-'.join(words)}'" if words else "")
    known = known_devices()
    if name in known.owners:
        raise _taken(f"'{name}', which belongs to {known.owners[name]}")
    if name in known.aliases:
        raise _taken(f"'{name}', by which people mean {' or '.join(known.aliases[name])}")
    for entry in REGISTRY.entries():
        if entry.name == name and entry.distribution != f"pluggrad-{name}".replace("_", "-"):
            raise _taken(f"'{name}', which {entry.provider} provides")


def _taken(got: str) -> ValueRangeError:
    return ValueRangeError(op="new-device", expected="a name that is free", got=got, hint="Choose another")


def write(name: str, folder: Path) -> list[Path]:
    """Write every file of the template into `folder`, which must not exist; their paths."""
    if folder.exists():
        raise UserError(op="new-device", expected="a folder that does not exist yet", got=str(folder),
                        hint="Nothing was written; --folder DIR names another")
    written = []
    for parts, text in files(name):
        path = folder.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise UserError(op="new-device", expected="a folder that can be made and written",
                            got=f"{path.parent}: {error.strerror}", hint="--folder DIR names another"
                            ) from None
        written.append(path)
    return written


def files(name: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """The files of device `name`: path, relative to the distribution's folder, and text."""
    for parts, source in sorted(_walk(resources.files("pluggrad.cli") / "device_template", ())):
        path = tuple([_renamed(part, name) for part in parts])
        yield path, _renamed(source.read_text(encoding="utf-8"), name)


def _walk(folder: Traversable, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, (*above, entry.name))
        elif entry.name.endswith(_SUFFIX):
            yield (*above, entry.name.removesuffix(_SUFFIX)), entry


def _renamed(text: str, name: str) -> str:
    """The template is the device `acme`: its name stands in text, modules and classes."""
    words = re.split("[_-]", name)
    text = text.replace("pluggrad_acme", f"pluggrad_{'_'.join(words)}")
    text = text.replace("pluggrad-acme", f"pluggrad-{'-'.join(words)}")
    return text.replace("Acme", "".join(map(str.capitalize, words))).replace("acme", name)
