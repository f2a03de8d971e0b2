"""The Spark that runs the streams."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from harness.settings.field import File, Folder, Group, Kind, Secret, Setting, Text

Memory = Annotated[
    str, Field(pattern=r"^[1-9][0-9]*[kmgt]$"), Kind("a size such as 2g or 512m")
]


class SparkSettings(Group):
    """A local Spark, or the address of a remote one."""

    master: Annotated[
        Text,
        Setting(
            "LAKEGAUGE_SPARK_MASTER",
            "Master of a local Spark; connect[2] is a Spark Connect server of our own.",
        ),
    ] = "local[*]"
    remote: Annotated[
        Secret | None,
        Setting(
            "LAKEGAUGE_SPARK_REMOTE",
            "Spark Connect address sc://host:port, or databricks; may hold a token.",
            option="--spark-remote",
        ),
    ] = None
    storage: Annotated[
        Folder | None,
        Setting(
            "LAKEGAUGE_SPARK_STORAGE",
            "Folder that a remote Spark and this process both see, for tables.",
        ),
    ] = None
    driver_memory: Annotated[
        Memory, Setting("LAKEGAUGE_SPARK_DRIVER_MEMORY", "Heap of the driver's JVM.")
    ] = "2g"
    delta_jars: Annotated[
        Folder | None,
        Setting(
            "LAKEGAUGE_SPARK_DELTA_JARS",
            "Folder of Delta's jars; default: resolved by Spark.",
            option="--delta-jars",
        ),
    ] = None
    ivy_cache: Annotated[
        Folder | None,
        Setting("LAKEGAUGE_SPARK_IVY_CACHE", "Folder where Spark keeps resolved jars."),
    ] = None
    ivy_settings: Annotated[
        File | None,
        Setting(
            "LAKEGAUGE_SPARK_IVY_SETTINGS",
            "Ivy settings file, for jars from a repository of one's own.",
        ),
    ] = None
