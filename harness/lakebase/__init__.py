"""Lakebase: credentials and pools over SQLAlchemy."""
