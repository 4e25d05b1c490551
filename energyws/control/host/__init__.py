"""What the machine and its container allow, beside what the configuration asks for."""
