"""The checking clients of the fault runs: over WebSocket, and over Server-Sent Events."""
