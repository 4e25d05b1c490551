"""Records with a schema of a Confluent-compatible registry, made JSON; no I/O."""
