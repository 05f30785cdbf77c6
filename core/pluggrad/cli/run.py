"""`python -m pluggrad run SCRIPT`: run a script and show where its time went, kernel by kernel."""
from __future__ import annotations

import argparse
import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from pluggrad.cli.options import add_script, writable_file
from pluggrad.profiling import profile
from pluggrad.runtime.devices import set_default_device


def main(arguments: Sequence[str]) -> int:
    """Run the script as `python SCRIPT` would, then print the table of its kernels to standard error."""
    parser = argparse.ArgumentParser(prog="python -m pluggrad run", description=__doc__)
    parser.add_argument("--profile", metavar="FILE", type=writable_file,
                        help="also write a trace, for https://ui.perfetto.dev")
    add_script(parser)
    options = parser.parse_args(arguments)
    if options.device:
        set_default_device(options.device)
    with profile(options.profile) as profiled:
        status = run_script(options.script, options.arguments)
    print(profiled, file=sys.stderr)
    if options.profile is not None:
        print(f"trace: {options.profile}, for https://ui.perfetto.dev", file=sys.stderr)
    return status


def run_script(script: Path, arguments: list[str]) -> int:
    """Its exit status; what it raised is printed."""
    sys.argv = [str(script), *arguments]
    sys.path[0] = str(script.parent)
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as ending:
        if isinstance(ending.code, int | None):
            return ending.code or 0
        print(ending.code, file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0
