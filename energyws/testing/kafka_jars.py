"""Kafka's jars: fetched with Maven, kept in $KAFKA_JARS_CACHE or ~/.cache/energyws-kafka."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

VERSION: Final = "4.3.1"
LOG_TAIL: Final = 3000
_LOG4J_VERSION: Final = "2.24.3"

# The second dependency is a logging backend: without one, Kafka fails without a message.
_POM: Final = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>energyws</groupId>
  <artifactId>kafka-for-tests</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>{_LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""


class KafkaBrokerError(Exception):
    """The broker cannot be fetched, formatted or started; the message says what to do."""


def fetch_jars() -> Path:
    """The directory of Kafka's jars, fetched with Maven when there is none yet."""
    cache = os.environ.get("KAFKA_JARS_CACHE")
    if not cache:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        cache = str(Path(home) / "energyws-kafka")
    jars = Path(cache) / VERSION
    if jars.is_dir():
        return jars
    maven = tool("mvn", "maven")
    jars.parent.mkdir(parents=True, exist_ok=True)
    # Fetched next to its place and then renamed: no run ever sees half of the jars.
    with tempfile.TemporaryDirectory(dir=jars.parent, prefix=f"{VERSION}-") as directory:
        pom, fetched = Path(directory) / "pom.xml", Path(directory) / "jars"
        pom.write_text(_POM)
        command = [
            maven,
            "--batch-mode",
            "--quiet",
            f"--file={pom}",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={fetched}",
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            output = (result.stdout + result.stderr)[-LOG_TAIL:]
            raise KafkaBrokerError(f"Maven could not fetch Kafka {VERSION}:\n{output}")
        try:
            fetched.rename(jars)
        except OSError:
            if not jars.is_dir():
                raise
    return jars


def tool(name: str, package: str) -> str:
    """The path of a program; raises KafkaBrokerError, naming its Debian package, without it."""
    found = shutil.which(name)
    if found is None:
        raise KafkaBrokerError(
            f"a real Kafka needs the command {name!r}: install it (Debian: {package}), "
            "or run the tests with the embedded broker"
        )
    return found
