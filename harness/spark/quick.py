"""Settings of a Spark that is started for a short run, whose times are not compared.

Most of what such a run costs is code that Spark compiles for one micro-batch, and
processes that Hadoop starts to rename a file. Neither is a matter of the streams: what
they read, keep, write and note as done stays the same.
"""

from __future__ import annotations

JAVA_OPTIONS = ("-XX:+UseSerialGC",)
# Compiled simply: halves the CPU time of a JVM's first minute. One that lives longer
# has that back from code which is compiled well.
BRIEF_JAVA_OPTIONS = (
    *JAVA_OPTIONS,
    "-XX:TieredStopAtLevel=1",
    # Such a compiler has 48 MB else: full in a minute, thrown away and made again.
    "-XX:ReservedCodeCacheSize=240m",
)

CONF = {
    # Java source made, compiled and loaded for each stage, to run over a few rows. Its
    # projections are compiled all the same: without, Spark cannot list its tables.
    "spark.sql.codegen.wholeStage": "false",
    # Jobs for each shuffle of a few rows, and a plan made anew after each.
    "spark.sql.adaptive.enabled": "false",
    "spark.databricks.delta.snapshotPartitions": "1",
    # Renaming by FileContext asks `readlink` about each name, in a process of its own
    # where Hadoop has no native library. Both of these rename by FileSystem.
    "spark.sql.streaming.checkpointFileManagerClass": (
        "org.apache.spark.sql.execution.streaming.checkpointing."
        "FileSystemBasedCheckpointFileManager"
    ),
    "spark.delta.logStore.file.impl": "io.delta.storage.LocalLogStore",
}
