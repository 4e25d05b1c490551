"""The documentation's figures and plots, from bench/results: `python -m bench.report`."""
