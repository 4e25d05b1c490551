"""Fan-out: the hub, live batches, catching up, and requests for history."""
