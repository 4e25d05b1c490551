"""The control plane: what runs in the supervisor, and the configuration that it alone reads."""
