"""The limits of the machine and its container, compared with the needs of the configuration."""
