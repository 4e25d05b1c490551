"""The JavaScript client: energyws.js, for browsers and Node; nothing here is Python's."""
