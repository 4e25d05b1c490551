"""Fuzzing: decoders that anybody reaches, streams of frames beside another server, positions."""
