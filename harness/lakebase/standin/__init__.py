"""A stand-in for Lakebase: its control plane, and a front before a real Postgres."""
