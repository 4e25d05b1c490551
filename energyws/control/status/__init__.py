"""`energyws status` and `energyws top`: views of what GET /status of a running service answers."""
