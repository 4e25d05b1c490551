"""The bytes of one connection: HTTP, TLS and WebSocket framing."""
