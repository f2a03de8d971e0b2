"""Where a Postgres comes from, and what is run on it."""
