"""What to do about the children, decided from what was seen of them. No I/O, no clock."""
