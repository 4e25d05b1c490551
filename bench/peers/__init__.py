"""The same broadcast on other servers, compared with energyws: `python -m bench.peers --help`."""
