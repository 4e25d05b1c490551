"""From an accepted socket to a client: the listener, pending connections and the handshake."""
