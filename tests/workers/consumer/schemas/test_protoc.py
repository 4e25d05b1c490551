from __future__ import annotations

import os
import sys
import tempfile
from base64 import b64encode
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from energyws.schemas.answers import Unavailable
from energyws.schemas.values import BadSchema
from workers.consumer.schemas import protoc
from workers.consumer.schemas.protoc import compile_descriptors

PROTO = 'syntax = "proto3"; message A { int32 n = 1; }'


def test_file_comes_after_what_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    text = 'syntax = "proto3"; import "a/b.proto"; message C { A a = 1; }'
    found = FileDescriptorSet.FromString(compile_descriptors(text, {"a/b.proto": PROTO}))
    assert [[each.name for each in file.message_type] for file in found.file] == [["A"], ["C"]]
    # Nothing is left behind.
    assert os.listdir(tmp_path) == []


def test_descriptors_in_base64_are_taken_beside_text() -> None:
    (made,) = FileDescriptorSet.FromString(compile_descriptors(PROTO, {})).file
    made.name = "as the producer named it.proto"
    encoded = b64encode(made.SerializeToString()).decode()
    text = 'syntax = "proto3"; import "a.proto"; message C { A a = 1; }'
    for main, references, names in (
        (encoded, {}, [["A"]]),
        (text, {"a.proto": encoded}, [["A"], ["C"]]),
    ):
        found = FileDescriptorSet.FromString(compile_descriptors(main, references))
        assert [[each.name for each in file.message_type] for file in found.file] == names


def python_runs(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, this is what runs in place of the compiler."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{program}'\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))


def test_schema_that_takes_too_much_time_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python_runs("while True: pass", tmp_path, monkeypatch)
    monkeypatch.setattr(protoc, "_CPU_SECONDS", 1)
    with pytest.raises(BadSchema, match="more than 1 s"):
        compile_descriptors(PROTO, {})


def test_descriptor_that_lacks_something_is_refused() -> None:
    lacking = FileDescriptorProto()
    lacking.options.uninterpreted_option.add().name.add()
    encoded = b64encode(lacking.SerializePartialToString()).decode()
    with pytest.raises(BadSchema, match="lacks"):
        compile_descriptors(encoded, {})


def test_fault_names_the_line_and_no_directory_of_ours() -> None:
    with pytest.raises(BadSchema) as bad:
        compile_descriptors('syntax = "proto3"; import "other.proto";', {})
    assert str(bad.value).startswith("protoc says: 1:20: Import")
    with pytest.raises(BadSchema, match=r"protoc says: other\.proto:1:9: Expected"):
        compile_descriptors(
            'syntax = "proto3"; import "other.proto";', {"other.proto": "message {"}
        )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("message {", "protoc says"),
        ('syntax = "proto3"; import "other.proto";', "other.proto"),
        ('syntax = "proto3"; message A { B b = 1; }', "is not defined"),
        ("\ud800", "protoc"),
    ],
)
def test_text_that_is_no_schema(text: str, says: str) -> None:
    with pytest.raises((BadSchema, Unavailable), match=says) as bad:
        compile_descriptors(text, {})
    assert "\n" not in str(bad.value)


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../a.proto", "a/../../b", "-I/", "", "a//b", "a/.b", "energyws_schema.proto"],
)
def test_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(BadSchema, match="name"):
        compile_descriptors(PROTO, {name: PROTO})


def test_names_that_cannot_be_files_side_by_side_are_refused() -> None:
    for names in (("a", "a/b"), ("a/b", "a"), ("a" * 201,)):
        with pytest.raises(BadSchema):
            compile_descriptors(PROTO, dict.fromkeys(names, PROTO))


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "signal 9"),
        ("import time; time.sleep(60)", "more than"),
        ("bytearray(1 << 30)", "cannot run: MemoryError"),
        ("import no_such_module", "cannot run: ModuleNotFoundError"),
    ],
)
def test_compiler_that_fails_is_asked_again(
    program: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python_runs(program, tmp_path, monkeypatch)
    monkeypatch.setattr(protoc, "_SECONDS", 1.0)
    with pytest.raises(Unavailable, match=says):
        compile_descriptors(PROTO, {})
