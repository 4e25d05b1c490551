"""Figures and plots of the documentation, from bench/results: `python -m bench.report`."""
