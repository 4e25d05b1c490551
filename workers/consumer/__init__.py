"""The consumer process: Kafka to frames, once for every client."""
