"""Streams: records, the ring, recovery, history, and the bus between processes. No I/O."""
