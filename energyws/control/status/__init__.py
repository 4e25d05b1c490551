"""The live view of a running service, and its summary: made of what GET /status answers."""
