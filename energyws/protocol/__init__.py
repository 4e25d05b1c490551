"""What crosses a client's connection: HTTP, WebSocket frames, messages, positions. No I/O."""
