"""The demo, as somebody new meets it."""
