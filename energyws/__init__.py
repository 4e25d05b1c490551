"""energyws: every reading of a Kafka topic to every WebSocket client, once and in order."""
