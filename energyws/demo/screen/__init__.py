"""The screen of the demo: its model, its drawing, and the clients that feed it."""
