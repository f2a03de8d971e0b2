"""Scaling a stream's workers with its load: the load, the capacity, the policies.

Measured and simulated never mix here: `capacity` holds what was measured, and says
where it goes beyond; `simulator` says what would follow from it.
"""
