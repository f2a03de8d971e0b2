"""A server that speaks the serving-endpoint protocol, in a process of its own."""
