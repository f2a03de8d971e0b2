"""Experiments: two variants of one benchmark, run against each other in pairs."""
