"""Schemas of records: fetched from a registry once, and used by whoever reads the log."""
