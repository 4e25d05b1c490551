"""A worker process: frames from the bus to the clients of one slot."""
