"""What tests of readers cannot show; tests/workers/consumer/schemas has the rest."""

from __future__ import annotations

from energyws.testing import SchemaRegistry


def test_versions_of_a_subject() -> None:
    registry = SchemaRegistry()
    with registry:
        first, second = (registry.register("s", "int") for _ in range(2))
    assert (first.version, second.version) == (1, 2)
    for version, schema_id in (("1", 1), ("2", 2), ("latest", 2)):
        status, answer = registry.answer(f"/subjects/s/versions/{version}?deleted=true", None)
        assert status == 200
        assert answer == {"subject": "s", "version": schema_id, "id": schema_id, "schema": "int"}
    for path, code in (
        ("/subjects/t/versions/1", 40401),
        ("/subjects/s/versions/3", 40402),
        ("/schemas/ids/3", 40403),
    ):
        status, answer = registry.answer(path, None)
        assert (status, answer["error_code"]) == (404, code)  # type: ignore[index]
    assert registry.answer("/elsewhere", None) == (404, {"message": "HTTP 404 Not Found"})
