"""The cost of compression: `python -m bench.deflate`."""
