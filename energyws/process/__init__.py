"""Between the supervisor and its children: the stats board and control messages. No event loop."""
