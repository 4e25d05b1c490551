"""Measurements of the real service; see bench/README.md."""
