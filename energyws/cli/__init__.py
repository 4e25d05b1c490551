"""The command line: `energyws` and its verbs."""
