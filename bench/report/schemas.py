"""The table of what records with schemas cost."""

from __future__ import annotations

from typing import Final

from bench.report.tables import Results, Section, count, table_of, text

_FORMATS: Final = {
    "json": "JSON",
    "json_schema": "JSON Schema",
    "avro": "Avro",
    "protobuf": "Protobuf",
}


def schemas(results: Results) -> Section:
    rows = [{**row, "name": _FORMATS[row["format"]]} for row in results["rows"]]
    return Section(
        table_of(
            rows,
            ("record", text("shape")),
            ("format", text("name")),
            ("bytes", count("record_bytes")),
            ("bytes of JSON", count("json_bytes")),
            ("µs", "us"),
            ("more than JSON, µs", "more_us"),
        )
    )
