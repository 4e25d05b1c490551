"""Compiles .proto files to descriptors, with Google's own compiler in a process of its own.

The registry has Protobuf schemas as text, and a parser of ours would differ from protoc. It is C++
that reads text of strangers, so it gets a process of its own, with little memory and time. Some
serializers register descriptors in Base64 instead, and some registries answer what was registered.
"""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import sys
import tempfile
from base64 import b64decode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError, EncodeError

from energyws.schemas.answers import Unavailable
from energyws.schemas.values import BadSchema
from workers.consumer.schemas.known_files import KNOWN_FILES

_MAIN: Final = "energyws_schema.proto"
_SECONDS: Final = 10.0
# Who needs so much of a processor's time has a schema that is too much for it, not a busy machine.
_CPU_SECONDS: Final = 5
_MEMORY_BYTES: Final = 512 << 20
# They become paths below a directory of ours.
_NAME: Final = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)
_MAX_NAME: Final = 200


def compile_descriptors(text: str, references: Mapping[str, str]) -> bytes:
    """A FileDescriptorSet, with the schema itself at its end, by the texts of what it imports.

    Raises BadSchema for a schema with faults, and Unavailable if it could not be compiled now.
    """
    for name in references:
        usable = _NAME.fullmatch(name) and len(name) <= _MAX_NAME
        if not usable or ".." in name or name == _MAIN:
            raise BadSchema("it imports a file whose name cannot be used")
    try:
        with tempfile.TemporaryDirectory(prefix="energyws-") as directory:
            root = Path(directory)
            compiled = FileDescriptorSet()
            for name, each in {**KNOWN_FILES, **references, _MAIN: text}.items():
                if (descriptor := _descriptor(each)) is not None:
                    descriptor.name = name
                    compiled.file.append(descriptor)
                    continue
                file = root / "text" / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(each, encoding="utf-8")
            (root / "compiled").write_bytes(compiled.SerializeToString())
            _run(root, (_MAIN, *references))
            return (root / "descriptors").read_bytes()
    except EncodeError:
        raise BadSchema("its descriptor lacks something that each must have") from None
    except (FileExistsError, IsADirectoryError, NotADirectoryError):
        raise BadSchema("it imports a file by the name of another one's directory") from None
    except (OSError, UnicodeEncodeError) as error:
        raise Unavailable(f"protoc cannot run: {error}") from None


def _descriptor(text: str) -> FileDescriptorProto | None:
    """The descriptor in a schema that is one in Base64, which no .proto file is."""
    try:
        return FileDescriptorProto.FromString(b64decode(text, validate=True)) if text else None
    except (ValueError, DecodeError):
        return None


def _run(root: Path, names: Sequence[str]) -> None:
    (root / "text").mkdir(exist_ok=True)
    with subprocess.Popen(
        [
            # -P: no module is taken from the directory.
            *(sys.executable, "-P", "-m", "grpc_tools.protoc"),
            *(f"-I{root}/text", f"--descriptor_set_in={root}/compiled", "--include_imports"),
            *(f"--descriptor_set_out={root}/descriptors", _MAIN),
        ],
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        # Where the system forbids it, there is the time.
        with suppress(ProcessLookupError, PermissionError):
            resource.prlimit(process.pid, resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
            resource.prlimit(process.pid, resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS + 1))
        try:
            _, errors = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Unavailable(f"protoc took more than {_SECONDS:g} s") from None
    if process.returncode == -signal.SIGXCPU:
        raise BadSchema(f"protoc needs more than {_CPU_SECONDS} s of a processor for it")
    if process.returncode < 0:
        raise Unavailable(f"protoc ended by signal {-process.returncode}")
    if process.returncode:
        lines = errors.replace(f"{root}/text/", "").splitlines() or ["nothing"]
        # Its own library may have something to say before.
        about = tuple(f"{name}:" for name in names)
        fault = next((line for line in lines if line.startswith(about)), None)
        if fault is None:
            # It names no file: what failed is not the schema.
            raise Unavailable(f"protoc cannot run: {lines[-1]}")
        raise BadSchema(f"protoc says: {fault.removeprefix(f'{_MAIN}:')}")
