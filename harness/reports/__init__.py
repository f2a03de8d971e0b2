"""Reports: schema, pytest-benchmark bridge, statistics, comparison."""
