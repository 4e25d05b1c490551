"""Autobahn's test suite against the session, listener, gate and compression of a worker."""
