"""The admin port: its server, what it answers, metrics, and the client of it."""
