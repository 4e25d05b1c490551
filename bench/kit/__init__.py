"""Shared by measurements: the service and its broker, records, clients, CPU times and results."""
