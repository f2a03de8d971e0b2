"""An archive of Spark's classes, made once: a JVM that maps it starts in half the time.

Java calls it application class-data sharing (JEP 350). The archive belongs to one Java
and one Spark; anything else is ignored by the JVM, which then starts as usual.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.settings import child_environment, redact
from harness.spark.cache import cache_folder, write_atomically
from harness.spark.jars import find_jars, installed_versions
from harness.spark.java import find_java

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.spark.java import Java

_TIMEOUT_S = 240.0
_EXIT_TIMEOUT_S = 120.0


def archive_options(
    java: Java,
    *,
    folder: Path | None = None,
    tell: Callable[[str], None] = lambda _line: None,
) -> tuple[str, ...]:
    """Return the options by which a JVM uses the archive, made now if need be.

    Never fails: a Java that cannot have one gets no options, and is not asked again.

    Args:
        java: The Java that runs Spark.
        folder: Where archives are kept.
        tell: Called with a line when one is made, or cannot be.
    """
    path = archive_path(java, folder=folder)
    refusal = path.with_suffix(".none")
    if not path.exists() and not refusal.exists():
        tell("making an archive of Spark's classes, once (up to a minute)")
        reason = _make(path)
        if reason is not None:
            tell(f"no archive of classes: {reason}; starts take twice as long")
            write_atomically(refusal, f"{reason}\n".encode(), mode=0o644)
    if not path.exists():
        return ()
    return (f"-XX:SharedArchiveFile={path}", "-Xshare:auto", "-Xlog:cds=off")


def archive_path(java: Java, *, folder: Path | None = None) -> Path:
    """Return where the archive for this Java and the installed Spark belongs."""
    import pyspark

    versions = installed_versions()
    # The archive names the jars it was made from; each installation has its own.
    where = f"{java.home}|{java.version}|{Path(pyspark.__file__).parent}"
    digest = hashlib.sha256(where.encode()).hexdigest()[:12]
    name = f"spark-{versions.spark}-java-{java.version}-{digest}.jsa"
    return (folder or cache_folder() / "java") / name


def _make(path: Path) -> str | None:
    """Run a session that leaves the archive at its end; return why it did not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        answer = subprocess.run(  # noqa: S603 - this module, in a process of its own
            [sys.executable, "-m", "harness.spark.archive", str(unfinished)],
            check=False,
            capture_output=True,
            text=True,
            env=child_environment(),
            timeout=_TIMEOUT_S,
        )
        if unfinished.exists():
            unfinished.replace(path)
            return None
    except (OSError, subprocess.SubprocessError) as error:
        return type(error).__name__
    finally:
        unfinished.unlink(missing_ok=True)
    last = (answer.stderr.strip() or "Java made none").splitlines()[-1]
    return redact(last)


def _train(target: Path) -> None:
    """Run what sessions commonly run, in a JVM that archives the classes it loaded."""
    from harness.spark.session import local_session

    java = find_java()
    with local_session(
        java=java,
        jars=find_jars(java=java),
        master="local[2]",
        driver_memory="1g",
        java_options=(f"-XX:ArchiveClassesAtExit={target}",),
        exit_timeout_s=_EXIT_TIMEOUT_S,
    ) as running:
        spark = running.session
        folder = Path(
            (spark.conf.get("spark.sql.warehouse.dir") or "").removeprefix("file:")
        )
        table = (folder / "table").as_uri()
        spark.range(100).selectExpr("id", "id % 3 AS k").write.format("delta").save(
            table
        )
        query = (
            spark.readStream.format("delta")
            .load(table)
            .groupBy("k")
            .count()
            .writeStream.format("noop")
            .outputMode("complete")
            .option("checkpointLocation", (folder / "checkpoint").as_uri())
            .trigger(availableNow=True)
            .start()
        )
        query.awaitTermination()
        spark.sql(
            f"MERGE INTO delta.`{table}` AS t USING (SELECT 1 AS id, 2 AS k) AS s "
            "ON t.id = s.id WHEN MATCHED THEN UPDATE SET * "
            "WHEN NOT MATCHED THEN INSERT *"
        ).collect()


def main() -> int:
    """Make the archive: for set-up, or into the file that is named."""
    if len(sys.argv) > 1:
        _train(Path(sys.argv[1]))
        return 0
    java = find_java()
    options = archive_options(java, tell=lambda line: print(f"  {line}"))  # noqa: T201 - a command
    print(archive_path(java) if options else "  no archive of classes")  # noqa: T201 - a command
    return 0


if __name__ == "__main__":
    sys.exit(main())
