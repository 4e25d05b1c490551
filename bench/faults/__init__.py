"""Faults injected into the real service, under traffic, with every client checked."""
