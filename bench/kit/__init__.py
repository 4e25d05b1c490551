"""What measurements share: the service and its broker, records, clients, CPU times and results."""
