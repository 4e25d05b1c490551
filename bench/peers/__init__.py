"""The same broadcast work on other servers, beside energyws: `python -m bench.peers --help`."""
