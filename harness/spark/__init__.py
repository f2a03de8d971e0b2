"""Spark and Delta: session, stepper, sinks, measured batches."""
