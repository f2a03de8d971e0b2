from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.spark.python_launcher import python_launcher
from harness.spark.session import spark_home

LIB = spark_home() / "python" / "lib"


@pytest.mark.skipif(os.name != "posix", reason="the launcher is a shell script")
def test_python_that_spark_starts_leaves_its_archives_out(tmp_path):
    """What else is on the path stays there, and so do the arguments."""
    launcher = python_launcher(spark_home(), folder=tmp_path / "a folder")
    archives = [str(path) for path in sorted(LIB.glob("*.zip"), reverse=True)]
    assert [Path(path).name[:4] for path in archives] == ["pysp", "py4j"]
    (core,) = map(str, (spark_home() / "jars").glob("spark-core_*.jar"))
    # Spark names them twice to the process that looks for data sources.
    path = [*archives, core, "/one.jar", "/a *", *archives, core]
    code = (
        "import os, sys, pyspark; "
        "print(os.environ['PYTHONPATH'], pyspark.__file__, sys.argv[1:], sep='\\n')"
    )

    said = subprocess.run(
        [launcher, "-c", code, "a b", "*"],
        env={**os.environ, "PYTHONPATH": ":".join(path)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()

    assert said == [
        "/one.jar:/a *",
        str(spark_home() / "__init__.py"),
        "['a b', '*']",
    ]


def test_python_is_started_itself_where_spark_has_no_archives(tmp_path):
    assert python_launcher(tmp_path, folder=tmp_path) == sys.executable
    assert list(tmp_path.iterdir()) == []


@pytest.mark.spark
def test_workers_of_a_session_import_what_is_installed(spark):
    from pyspark.sql.functions import udf

    @udf("string")
    def imported(_number):
        import pyspark

        return pyspark.__file__

    (row,) = spark.range(1).select(imported("id")).collect()

    assert row[0] == str(spark_home() / "__init__.py")
