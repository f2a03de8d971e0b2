"""Statistics of runs: a ratio, how sure it is, and what would make it surer."""
