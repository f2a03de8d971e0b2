"""Health and performance of a pool and its database, watched while they work."""
