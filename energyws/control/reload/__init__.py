"""A reload: what changed and what that takes, the preflight, and the watched files."""
