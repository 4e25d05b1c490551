"""The ZeroMQ link: one publisher in the consumer process, one subscriber in each worker.

The pattern is Clone (zguide chapter 5); energyws.stream.bus_messages has the layout and the rules.
PUB drops silently for a subscriber whose queue is full: the subscriber notices by the dense
sequence, and, where no further frame follows, by the heartbeat.
"""
