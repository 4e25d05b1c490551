"""A reload: watched files, the preflight of new settings, and which processes to replace."""
