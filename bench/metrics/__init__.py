"""What metrics cost: `python -m bench.metrics`."""
