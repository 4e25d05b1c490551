"""Tokens: verification, issuers' keys and the cache of verified tokens. No I/O."""
