"""Clients with a WebSocket: sessions, their registry and their log."""
