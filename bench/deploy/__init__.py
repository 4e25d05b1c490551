"""What operators do to a running service, under traffic: `python -m bench.deploy`."""
