"""Hooks of the documentation's site: a reference page for each public module, written from what it exports.

Every public name gets an entry because it is public, so that none is forgotten; its text is its docstring.
"""
from __future__ import annotations

import inspect
import re
import types
from importlib import import_module
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# title of each page: the module whose public names it lists; what several list, the first page describes
MODULES = {"Tensor": "pluggrad.tensor", "pluggrad": "pluggrad"} | {title: f"pluggrad.{title}" for title in (
    "nn", "nn.optim", "nn.state", "data", "dtypes", "errors", "array_api", "testing.gradcheck", "plugin_api")}
DEFINED = (type, types.FunctionType)
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the reference pages where the navigation says `Reference`."""
    for section in config.nav or ():
        if "Reference" in section:
            section["Reference"] = [{title: f"reference/{title}.md"} for title in MODULES]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reference pages, which are in no folder."""
    homes: dict[str, str] = {}  # where each class or function is defined -> the page that describes it
    for title, module in MODULES.items():
        text = tensor_page() if title == "Tensor" else module_page(module, title, homes)
        files.append(File.generated(config, f"reference/{title}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leave the text of links that lead out of the site, to files of the repository."""
    return OUTSIDE.sub(r"\1", markdown)


def tensor_page() -> str:
    """Tensor, and its methods in a section for each family."""
    tensor = import_module("pluggrad").Tensor
    families = [cls for cls in reversed(tensor.__mro__) if cls.__module__.startswith("pluggrad.")]
    entries = [entry(path(cls)) for cls in (tensor, *families[:-1]) if has_members(cls)]
    return "\n\n".join(["# Tensor", *entries])


def has_members(cls: type) -> bool:
    """Whether a class brings anything public itself."""
    return any(not name.startswith("_") for name in vars(cls))


def module_page(name: str, title: str, homes: dict[str, str]) -> str:
    """The public names of a module: those that it lists, or what it defines."""
    module = import_module(name)
    if not hasattr(module, "__all__"):
        defined = [v for v in vars(module).values() if getattr(v, "__module__", None) == name]
        homes.update({path(value): title for value in defined if isinstance(value, DEFINED)})
        return f"# {name}\n\n{entry(name, show_root_heading=False, show_root_toc_entry=False)}"
    names = [public for public in module.__all__ if public != "Tensor"]
    head = [f"# {name}", inspect.cleandoc(module.__doc__ or "")]
    entries = [described(getattr(module, public), public, title, homes) for public in names]
    return "\n\n".join([*head, *entries])


def described(value: Any, name: str, title: str, homes: dict[str, str]) -> str:
    """The entry of one public name; a value that is neither class nor function shows itself."""
    if isinstance(value, types.ModuleType):
        return f"### {name}\n\nThe module `{value.__name__}`."
    if not isinstance(value, DEFINED):
        ours = type(value).__module__.startswith("pluggrad.")
        text = entry(path(type(value)), show_root_heading=False) if ours else f"`{value!r}`"
        return f"### {name}\n\n{text}"
    home = homes.setdefault(path(value), title)
    return entry(path(value)) if home == title else f"### {name}\n\nSee [{home}]({home}.md#{path(value)})."


def path(value: Any) -> str:
    """Where a class or function is defined."""
    return f"{value.__module__}.{value.__qualname__}"


def entry(identifier: str, **options: bool) -> str:
    """mkdocstrings' directive."""
    lines = [f"::: {identifier}"]
    if options:
        lines += ["    options:", *[f"      {name}: {str(on).lower()}" for name, on in options.items()]]
    return "\n".join(lines)
