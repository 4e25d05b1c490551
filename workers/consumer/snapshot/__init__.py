"""The newest record of each key: read from the topic at the start, and given to workers."""
