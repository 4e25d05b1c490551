"""How many workers? `python -m bench.tune`."""
