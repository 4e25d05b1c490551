"""Operator actions on a running service, under traffic: `python -m bench.deploy`."""
