"""For tests against a real energyws: a broker, the service, a token issuer and a faulty proxy."""
