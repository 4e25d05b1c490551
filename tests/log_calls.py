"""Finds every call in the code that writes a log line, from the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
LEVELS = {
    "debug": "DEBUG",
    "info": "INFO",
    "notice": "INFO",
    "warning": "WARNING",
    "error": "ERROR",
    "exception": "ERROR",
    "fault": "ERROR",
}
LIMITED_FIELDS = ("held_back",)
TRACEBACK_FIELDS = ("traceback",)


@dataclass(frozen=True)
class Call:
    """One call. levels: several if a condition selects the level."""

    where: str
    logger: str
    event: str
    levels: frozenset[str]
    fields: tuple[str, ...]


def log_calls() -> list[Call]:
    """All logging calls of both packages."""
    return [
        call
        for package in ("energyws", "workers")
        for path in sorted((ROOT / package).rglob("*.py"))
        for call in _Module(path).calls()
    ]


class _Module:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._tree = ast.parse(path.read_text())
        # The logger of a variable or attribute, and whether it is rate-limited.
        self._loggers: dict[str, tuple[str, bool]] = {}
        # Variables for one of several methods: `level = _log.info if … else _log.error`.
        self._choices: dict[str, ast.IfExp] = {}
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                self._note(node.targets[0], node.value)
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                self._note(node.target, node.value)

    def calls(self) -> Iterator[Call]:
        for node in ast.walk(self._tree):
            if not isinstance(node, ast.Call):
                continue
            if _last_name(node.func) == "Shortage":
                yield self._shortage(node)
            elif (methods := list(self._methods(node.func))) and not _passes_on(node):
                yield self._call(node, methods)

    def _note(self, target: ast.expr, value: ast.expr) -> None:
        name = _last_name(target)
        if name is None:
            return
        if isinstance(value, ast.IfExp):
            self._choices[name] = value
        # Also within a lambda: a dataclass's default.
        for node in ast.walk(value):
            if isinstance(node, ast.Call) and (found := self._made(node)) is not None:
                self._loggers[name] = found

    def _made(self, node: ast.Call) -> tuple[str, bool] | None:
        """The logger that Log("name") or RateLimitedLog(log, seconds) makes."""
        kind = _last_name(node.func)
        if kind == "Log" and node.args and isinstance(node.args[0], ast.Constant):
            return str(node.args[0].value), False
        if kind == "RateLimitedLog":
            return self._loggers[_last_name(node.args[0]) or ""][0], True
        return None

    def _methods(self, function: ast.expr) -> Iterator[tuple[str, tuple[str, bool]]]:
        """The logger methods that a called function may be."""
        if isinstance(function, ast.Name) and function.id in self._choices:
            choice = self._choices[function.id]
            yield from self._methods(choice.body)
            yield from self._methods(choice.orelse)
        elif isinstance(function, ast.Attribute) and function.attr in LEVELS:
            receiver = function.value
            made = self._made(receiver) if isinstance(receiver, ast.Call) else None
            logger = made or self._loggers.get(_last_name(receiver) or "")
            name = _last_name(receiver) or ""
            assert logger is not None or "log" not in name, f"{self._path}: unknown logger {name}"
            if logger is not None:
                yield function.attr, logger

    def _shortage(self, node: ast.Call) -> Call:
        """energyws.control.host.shortages makes it, and the supervisor logs it unchanged."""
        event, fields = (ast.literal_eval(_names_only(each)) for each in node.args[:2])
        where = f"{self._path.relative_to(ROOT)}:{node.lineno}"
        return Call(where, "supervisor", event, frozenset({"WARNING"}), (*fields, "hint"))

    def _call(self, node: ast.Call, methods: list[tuple[str, tuple[str, bool]]]) -> Call:
        where = f"{self._path.relative_to(ROOT)}:{node.lineno}"
        assert len(node.args) == 1, f"{where}: give an event, and fields by name"
        event = node.args[0]
        assert isinstance(event, ast.Constant), f"{where}: an event must be a constant"
        assert isinstance(event.value, str), where
        names = [keyword.arg for keyword in node.keywords]
        fields = [name for name in names if name is not None]
        assert len(fields) == len(names), f"{where}: give fields by name, not as a mapping"
        ((logger, limited),) = {logger for _, logger in methods}
        if limited:
            fields = [name for name in fields if name != "kind"] + list(LIMITED_FIELDS)
        if any(method in ("exception", "fault") for method, _ in methods):
            fields += TRACEBACK_FIELDS
        levels = frozenset(LEVELS[method] for method, _ in methods)
        return Call(where, logger, event.value, levels, tuple(fields))


def _last_name(node: ast.expr) -> str | None:
    """`_log` of self._log and of _log."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return None


def _passes_on(node: ast.Call) -> bool:
    """Whether a call logs the event of a Shortage."""
    return _last_name(node.args[0]) == "event"


def _names_only(node: ast.expr) -> ast.expr:
    """The first elements of a tuple of pairs; any other node unchanged."""
    if isinstance(node, ast.Tuple):
        firsts = [pair.elts[0] for pair in node.elts if isinstance(pair, ast.Tuple)]
        return ast.Tuple(firsts, ast.Load())
    return node
