"""Log events, the forms of their lines, the thread that writes them, and rate limits."""
