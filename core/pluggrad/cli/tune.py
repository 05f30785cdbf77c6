"""`python -m pluggrad tune SCRIPT`: run a script and search for the fastest schedule of each of its kernels.

What is found stays in the cache folder and is used from then on. Ctrl-C keeps what was found so far.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pluggrad.cli.options import add_script
from pluggrad.cli.run import run_script
from pluggrad.config import CACHE, SEARCH
from pluggrad.runtime.devices import set_default_device
from pluggrad.runtime.sessions import sessions


def main(arguments: Sequence[str]) -> int:
    """Run the script as `python SCRIPT` would, under PLUGGRAD_SEARCH=1, then print what became faster."""
    parser = argparse.ArgumentParser(prog="python -m pluggrad tune", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_script(parser)
    options = parser.parse_args(arguments)
    if not CACHE.value:
        parser.error(f"what is found would be lost: {CACHE.variable}=0")
    if options.device:
        set_default_device(options.device)
    SEARCH.assign(True)
    try:
        return run_script(options.script, options.arguments)
    finally:
        print("\n".join(found_lines()), file=sys.stderr)


def found_lines() -> list[str]:
    """What searches of this process found: a line for each kernel that became faster, then how many did."""
    lines, searched = [], 0
    for place in sessions():
        for name, found in place.tuning.found:
            searched += 1
            if found.change:
                chosen = ", ".join(f"{field} {value:g}" for field, value in found.change)
                lines.append(f"{place.id}  {name}  {found.gain:.2f}x, as for {chosen}")
    return [*lines, f"kernels searched for: {searched}, faster than before: {len(lines)}"]
