"""`python -m pluggrad devices`: a row for each installed device plugin, each probed in its own process."""
from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pluggrad.cli.options import time_limit
from pluggrad.cli.probing import TIME_LIMIT_S, Default, Row, find_default, probe_all

SLOW_IMPORT_S: Final = 0.2
_HEADINGS: Final = ("", "device", "state", "count", "plugin", "note")


def main(arguments: Sequence[str]) -> int:
    """Print the table, or JSON; 0 if there is a default device, else 1."""
    parser = argparse.ArgumentParser(prog="python -m pluggrad devices", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-v", "--verbose", action="store_true",
                        help="add capabilities, tracebacks, and a smoke test of one kernel")
    parser.add_argument("--time-limit", type=time_limit, default=TIME_LIMIT_S, metavar="S",
                        help="seconds that one plugin may take (default: %(default)g)")
    options = parser.parse_args(arguments)
    rows = probe_all(options.verbose, options.time_limit)
    default = find_default(rows, options.time_limit)
    if options.json:
        print(json.dumps(as_json(rows, default), indent=2))
    else:
        print("\n".join(as_table(rows, default, options.verbose)))
    return 0 if default.device is not None else 1


def as_json(rows: Sequence[Row], default: Default) -> dict[str, Any]:
    """The same content as the table, for programs."""
    devices = [{
        "device": row.device, "state": row.status, "default": _is_default(row, default), "count": row.count,
        "distribution": row.distribution, "version": row.version, "reason": row.reason, "fix": row.fix,
        **row.details} for row in rows]
    chosen = {"device": default.device, "reason": default.reason, "warnings": list(default.warnings)}
    return {"default": chosen, "devices": devices}


def as_table(rows: Sequence[Row], default: Default, verbose: bool = False) -> Iterator[str]:
    """Lines of the table: a row and, below it, its fix; then the default and why it is that one."""
    table = [_HEADINGS] + [_cells(row, default) for row in rows]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(_HEADINGS) - 1)]
    indent = " " * (sum(widths) + 2 * len(widths))
    for cells, row in zip(table, [None, *rows]):
        left = "  ".join(text.ljust(width) for text, width in zip(cells, widths))
        yield f"{left}  {cells[-1]}".rstrip()
        if row is not None:
            if row.fix:
                yield f"{indent}try: {row.fix}"
            yield from (f"    {line}" for line in _details(row) if verbose)
    yield ""
    chosen = f"* default: {default.device}" if default.device else "no default"
    yield f"{chosen}: {default.reason}"
    yield from (f"warning: {warning}" for warning in default.warnings)


def _cells(row: Row, default: Default) -> tuple[str, ...]:
    plugin = f"{row.distribution} {row.version}".strip()
    mark = "*" if _is_default(row, default) else ""
    return (mark, row.device, row.status, str(row.count), plugin, _note(row))


def _note(row: Row) -> str:
    parts = [row.reason] if row.reason else []
    seconds, loads = row.details.get("import_seconds", 0.0), row.details.get("import_loads", [])
    if seconds > SLOW_IMPORT_S:
        parts.append(f"its import takes {seconds:.1f} s")
    if loads:
        parts.append(f"its import loads {', '.join(loads)}")
    return "; ".join(parts)


def _is_default(row: Row, default: Default) -> bool:
    name = (default.device or "").partition(":")[0].partition("@")[0]
    return row.device == name and row.state in ("ready", "failed", "crashed")


def _details(row: Row) -> Iterator[str]:
    details = row.details
    if details.get("about"):
        yield str(details["about"])
    yield from (f"{row.device}:{index}  {name}" for index, name in enumerate(details.get("names", ())))
    if "tier" in details:
        yield f"tier {details['tier']}, imported in {details['import_seconds'] * 1e3:.0f} ms"
    if "arch" in details:
        yield from _wrapped(f"target: {details['arch'].replace(',', ', ')}")
        yield from _capabilities(details["capabilities"])
    for variant in details.get("variants", ()):
        yield f"{variant['device']}  {variant['reason'] or 'ready'}  ({variant['plugin']})"
    if "conformance" in details:
        yield f"conformance: {details['conformance']}"
    if "smoke" in details:
        yield f"smoke test: {details['smoke']}"
    yield from str(details.get("traceback", "")).splitlines()


def _capabilities(capabilities: dict[str, Any]) -> Iterator[str]:
    for name, value in capabilities.items():
        text = f"{value:g}" if isinstance(value, float) else str(value)
        if isinstance(value, list):
            text = " ".join(map(str, value)) or "-"
        yield from _wrapped(f"{name}: {text}")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, width=100, subsequent_indent="    ", break_on_hyphens=False)
