"""How fast the operator is, and what it costs; `python -m bench.operator --help`."""
