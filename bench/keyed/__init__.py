"""Streams with keys, whose clients get the records of a few keys each."""
