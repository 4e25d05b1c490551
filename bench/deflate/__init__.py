"""What compression costs: `python -m bench.deflate`."""
