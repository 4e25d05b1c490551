"""`energyws demo`: simulated smart meters, and everything that shows them on a terminal."""
