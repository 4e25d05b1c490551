"""The cost of metrics: `python -m bench.metrics`."""
