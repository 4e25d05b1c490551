"""Snapshots for clients: asked of the consumer, and on their way to each client."""
