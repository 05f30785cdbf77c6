"""Speed beside other frameworks, measured turn and turn about: `python -m benchmarks`, or `make bench`."""
