"""The JavaScript client, energyws.js, for browsers and Node; this package has no Python code."""
