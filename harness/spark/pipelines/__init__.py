"""Declarative pipelines: one file, run by open-source Spark here or by a workspace."""
