from __future__ import annotations

import pytest

from energyws.testing.conformance import client, server
from energyws.testing.conformance.main import main
from energyws.testing.conformance.table import ClientCase, Result, ServerCase, Verdict, result
from energyws.testing.conformance.target import Target
from tests.testing.conformance import servers

URL = "ws://127.0.0.1:1/ws/energy"


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://host:80/ws/energy", "write ws://HOST:PORT/ws/energy"),
        ("ws://host:80", "write ws://HOST:PORT/ws/energy"),
        ("ws://host:port/ws/energy", "write ws://HOST:PORT/ws/energy"),
        ("", "write ws://HOST:PORT/ws/energy"),
        ("ws://host:80/ws/energy?token=a.b.c", "leave out the query"),
    ],
)
def test_wrong_argument(url: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([url])
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_server_that_cannot_be_judged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WS_TOKEN", raising=False)
    assert main([URL]) == 1
    assert capsys.readouterr().err == (
        f"{URL}: put a valid token into the environment variable WS_TOKEN\n"
    )
    monkeypatch.setenv("MINE", "a.b.c")
    assert main([URL, "--token-env", "MINE"]) == 1
    assert "refused" in capsys.readouterr().err
    assert main([URL, "--token-env", "MINE", "--cacert", "/no/such"]) == 1
    assert capsys.readouterr().err == f"{URL}: --cacert /no/such: No such file or directory\n"


def test_command_that_cannot_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["client", "--", "/no/such/command"]) == 1
    assert "/no/such/command: [Errno 2] No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verdict", "detail", "code"),
    [("ok", "", 0), ("skip", "why", 0), ("warn", "why", 0), ("FAIL", "why", 1)],
)
def test_line_for_each_case(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verdict: Verdict,
    detail: str,
    code: int,
) -> None:
    def judge(case: ServerCase, target: Target, missing: dict[str, str]) -> Result:
        return Result(case, verdict, detail)

    monkeypatch.setattr(server, "judge", judge)
    monkeypatch.setenv("WS_TOKEN", "a.b.c")
    with servers.server(servers.correct) as target:
        assert main([target.url, "--only", "WS-PING-1", "--only", "HTTP-1"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{verdict:4}  {'WS-PING-1':18}  A server MUST answer ping with pong."
    assert [line.strip() for line in lines[1:-1]].count("why") == (2 if detail else 0)
    counts = {name: 2 if name == verdict else 0 for name in ("ok", "FAIL", "warn", "skip")}
    assert lines[-1] == "{ok} ok, {FAIL} failed, {warn} warnings, {skip} skipped".format(**counts)


def test_command_of_a_client_comes_after_two_dashes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[str, list[str], bool, bool]] = []

    def judge(
        case: ClientCase,
        command: list[str],
        *,
        has_function: bool,
        has_keys: bool,
        seconds: float,
    ) -> Result:
        ran.append((case.id, command, has_function, has_keys))
        return result(case, None, [])

    monkeypatch.setattr(client, "judge", judge)
    options = ["client", "--token-function", "--only", "CLIENT-RECONNECT", "--", "run", "--last"]
    assert main(options) == 0
    assert ran == [("CLIENT-RECONNECT-1", ["run", "--last"], True, False)]
    assert main(["client", "--only", "NO-SUCH", "--", "run"]) == 1
    assert capsys.readouterr().err == "no case has such an id\n"
