"""The configuration: file, environment and flags to validated settings, or every problem found."""
