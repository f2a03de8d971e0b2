"""Scaling a stream's workers with its load: the load, the capacity, the policies.

Measured and simulated never mix here: `measured` runs a stream on each number of
cores and `allocation` under Spark's dynamic allocation; `capacity` holds what was
measured, and says where it goes beyond; `simulator` says what would follow from it.
"""
