"""The data plane: what runs inside a child process of the supervisor."""
