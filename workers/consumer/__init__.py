"""The consumer process: turns Kafka's records into frames, once for all clients."""
