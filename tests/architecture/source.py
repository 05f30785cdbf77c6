"""The source tree as the architecture tests read it: files and syntax trees, never imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "core" / "pluggrad"
PLUGINS = ROOT / "plugins"


@dataclass(frozen=True)
class Source:
    """One Python file: where it stands, relative to its package, and its syntax tree."""

    path: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The first part of the path: the stage that a core file belongs to."""
        return self.path.partition("/")[0].removesuffix(".py")


def parse(path: str, text: str) -> Source:
    return Source(path, ast.parse(text, filename=path))


@lru_cache(maxsize=1)
def core_sources() -> tuple[Source, ...]:
    return tuple(_read(CORE))


@lru_cache(maxsize=1)
def plugin_sources() -> tuple[Source, ...]:
    return tuple(source for package in plugin_packages() for source in _read(package))


def plugin_packages() -> list[Path]:
    """Each plugin's import package: plugins/<name>/pluggrad_<name>."""
    return sorted(path for path in PLUGINS.glob("*/pluggrad_*") if path.is_dir())


def plugin_projects() -> list[Path]:
    return sorted(PLUGINS.glob("*/pyproject.toml"))


def _read(package: Path) -> Iterator[Source]:
    for file in sorted(package.rglob("*.py")):
        yield parse(file.relative_to(package).as_posix(), file.read_text(encoding="utf-8"))


# -------------------------------------------------------------------------------- imports


@dataclass(frozen=True)
class Imported:
    """One import, also one made by name at run time. `names` is empty for `import module`."""

    module: str
    names: tuple[str, ...]
    line: int
    at_import_time: bool


IMPORT_FUNCTIONS = {"import_module", "__import__", "find_spec", "import_or_none", "importorskip"}
LIBRARY_FUNCTIONS = {"CDLL", "PyDLL", "WinDLL", "OleDLL", "LoadLibrary", "find_library"}


def imports(source: Source) -> Iterator[Imported]:
    """Every import of a file, inside functions too, and `import_module("literal")`."""
    deferred = _deferred_nodes(source.tree)
    for node in ast.walk(source.tree):
        now = node not in deferred
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Imported(alias.name, (), node.lineno, now)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            yield Imported("." * node.level + (node.module or ""), names, node.lineno, now)
        elif isinstance(node, ast.Call) and called_name(node) in IMPORT_FUNCTIONS:
            module = _first_text(node)
            if module is not None:
                yield Imported(module, (), node.lineno, now)


def libraries(source: Source) -> Iterator[tuple[str, int]]:
    """Shared libraries that a file loads by name."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and called_name(node) in LIBRARY_FUNCTIONS:
            library = _first_text(node)
            if library is not None:
                yield library, node.lineno


def called_name(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _first_text(call: ast.Call) -> str | None:
    if call.args and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str):
        return call.args[0].value
    return None


def _deferred_nodes(tree: ast.Module) -> set[ast.AST]:
    """Nodes that do not run when the module is imported: function bodies and TYPE_CHECKING blocks."""
    deferred: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            deferred.update(ast.walk(node))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                deferred.update(ast.walk(child))
    return deferred


# -------------------------------------------------------------------------------- text constants


def text_constants(source: Source) -> Iterator[tuple[str, int]]:
    """String constants that the program can act on: docstrings and other bare strings are left out."""
    bare = {
        node.value
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in bare:
            yield node.value, node.lineno
