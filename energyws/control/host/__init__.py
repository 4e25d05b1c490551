"""What the machine and its container allow, compared with what the configuration needs."""
