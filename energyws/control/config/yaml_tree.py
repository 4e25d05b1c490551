"""YAML text to plain values with known lines, and back. The only user of PyYAML.

Stricter than PyYAML's safe loader: a duplicate key is a problem instead of overwriting the first,
dates stay strings, and there are no tags, anchors or aliases.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from energyws.control.config.problems import KeyPath, Problems, dotted

_TAG: Final = "tag:yaml.org,2002:"
_SCALARS: Final = frozenset(_TAG + name for name in ("null", "bool", "int", "float"))
_TAGS: Final = _SCALARS | {_TAG + name for name in ("str", "map", "seq")}
# PyYAML quotes the file in its messages, and that may be (part of) a secret. Single characters and
# the names of its own tokens ('<block end>') are safe, and useful.
_QUOTED: Final = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_SAFE_TO_QUOTE: Final = re.compile(r".{0,3}|<[a-z ]+>")


def read(text: str, problems: Problems) -> Any:
    """The values in `text`, all keys strings; None if it is empty, or not YAML.

    The locations of the values, and what is wrong with the text, go to `problems`.
    """
    try:
        loader = _Loader(text, problems)
        root = loader.get_single_node()
    except yaml.YAMLError as error:
        line, reason = _syntax_error(text, error)
        problems.add_text(reason, problems.line(line))
        return None
    return None if root is None else loader.value(root, ())


def write(tree: Any) -> str:
    """`tree` as YAML, keys in their order."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=1000)


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str, problems: Problems) -> None:
        self._problems = problems
        super().__init__(text)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise yaml.composer.ComposerError(
                problem="& and * make anchors in YAML: put a value that starts with one in quotes",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def value(self, node: yaml.Node, path: KeyPath, line: int | None = None) -> Any:
        """The plain value of a node. line: that of its key, if it has one."""
        written = None
        if isinstance(node, yaml.ScalarNode):
            written = f'"{node.value}"' if node.style else str(node.value)
        if path:
            self._problems.put(path, self._problems.line(line or _line(node), written))
        if node.tag not in _TAGS:
            text = "! makes a tag in YAML: put a value that starts with one in quotes"
            self._problems.add(path, text)
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        try:
            return self.construct_object(node)
        except (yaml.YAMLError, ValueError):
            self._problems.add(path, "cannot be read as a value: put it in quotes")
            return None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            key, line = key_node.value, _line(key_node)
            text = None
            if not isinstance(key_node, yaml.ScalarNode):
                text = "a key must be a plain word"
            elif key in mapping:
                text = f"{dotted((*path, key))}: duplicate key (first on line {first[key]})"
            if text is not None:
                self._problems.add_text(text, self._problems.line(line))
                continue
            first[key] = line
            mapping[key] = self.value(value_node, (*path, key), line)
        return mapping


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _SCALARS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _syntax_error(text: str, error: yaml.YAMLError) -> tuple[int, str]:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return line, f"cannot be read: the character U+{error.character:04X}"
    # Every other error of reading, scanning, parsing and composing has a mark.
    assert isinstance(error, yaml.MarkedYAMLError)
    assert error.problem_mark is not None
    line = error.problem_mark.line + 1
    reason = ", ".join(part for part in (error.context, error.problem) if part)
    if "'\\t'" in reason:
        return line, "a tab character: YAML is indented with spaces only"
    return line, f"cannot be read: {_QUOTED.sub(_quote, reason)}"


def _quote(match: re.Match[str]) -> str:
    quoted = match[1] if match[1] is not None else match[2]
    return match[0] if _SAFE_TO_QUOTE.fullmatch(quoted) else "'…'"
