"""The conformance kit: replays a table of exchanges to any server or client of the protocol.

The table is docs/contract/conformance.json; docs/contract/README.md says how to use the kit.
"""
