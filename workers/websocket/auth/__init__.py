"""Tokens of a worker's clients, and the issuers' keys that check them."""
