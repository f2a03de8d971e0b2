"""The load engine: knows nothing of Postgres, Spark or HTTP."""
