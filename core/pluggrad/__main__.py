"""`python -m pluggrad`."""
from __future__ import annotations

import sys

from pluggrad.cli import main

sys.exit(main())
