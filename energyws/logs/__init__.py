"""Log events, their formats, the thread that writes them, and rate limits."""
