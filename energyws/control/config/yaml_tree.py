"""YAML text to plain values that know their lines, and back. The only user of PyYAML.

Stricter than PyYAML's safe loader: duplicate keys are problems instead of overwriting one another,
dates stay texts, and there are no tags, anchors or aliases.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from energyws.control.config.problems import KeyPath, dotted

_TAG: Final = "tag:yaml.org,2002:"
_SCALARS: Final = frozenset(_TAG + name for name in ("null", "bool", "int", "float"))
_TAGS: Final = _SCALARS | {_TAG + name for name in ("str", "map", "seq")}
# PyYAML quotes the file in its messages, and what it quotes may be (part of) a secret. Single
# characters and the names of its own tokens ('<block end>') are safe, and useful.
_QUOTED: Final = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_SAFE_TO_QUOTE: Final = re.compile(r".{0,3}|<[a-z ]+>")


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a value stands, and how it was typed if it is a scalar."""

    line: int
    written: str | None


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong in the text; `path` is the value lost by it, empty if there is no such."""

    path: KeyPath
    line: int
    text: str


@dataclass(slots=True)
class Document:
    """The values (None where the text is no YAML, or empty), their marks, and what is wrong."""

    tree: Any = None
    marks: dict[KeyPath, Mark] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def read(text: str) -> Document:
    """The document in `text`, its keys all texts; faults are listed, never raised."""
    document = Document()
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.YAMLError as error:
        document.faults.append(_syntax_fault(text, error))
    else:
        if root is not None:
            document.tree = _Builder(loader, document).value(root, ())
    return document


def write(tree: Any) -> str:
    """`tree` as YAML, keys in their order."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=1000)


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise yaml.composer.ComposerError(
                problem="& and * make anchors in YAML: put a value that starts with one in quotes",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _SCALARS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Builder:
    def __init__(self, loader: _Loader, document: Document) -> None:
        self._loader = loader
        self._document = document

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        line = node.start_mark.line + 1
        written = _written(node) if isinstance(node, yaml.ScalarNode) else None
        # A section's mark is its key's, which the mapping has set already.
        self._document.marks.setdefault(path, Mark(line, written))
        if node.tag not in _TAGS:
            return self._fault(
                path, line, "! makes a tag in YAML: put a value that starts with one in quotes"
            )
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        try:
            return self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError):
            return self._fault(path, line, "cannot be read as a value: put it in quotes")

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._fault(path, line, "a key must be a plain word")
                continue
            key = key_node.value
            inner = (*path, key)
            if key in mapping:
                first = self._document.marks[inner].line
                text = f"{dotted(inner)}: stands here twice, on line {first} too: keep one"
                self._fault((), line, text)
                continue
            written = _written(value_node) if isinstance(value_node, yaml.ScalarNode) else None
            self._document.marks[inner] = Mark(line, written)
            mapping[key] = self.value(value_node, inner)
        return mapping

    def _fault(self, path: KeyPath, line: int, text: str) -> None:
        self._document.faults.append(Fault(path, line, text))


def _written(node: yaml.ScalarNode) -> str:
    return f'"{node.value}"' if node.style else str(node.value)


def _syntax_fault(text: str, error: yaml.YAMLError) -> Fault:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return Fault((), line, f"cannot be read: the character U+{error.character:04X}")
    # Every other error of reading, scanning, parsing and composing has a mark.
    assert isinstance(error, yaml.MarkedYAMLError)
    assert error.problem_mark is not None
    line = error.problem_mark.line + 1
    said = ", ".join(part for part in (error.context, error.problem) if part)
    if "'\\t'" in said:
        return Fault((), line, "a tab character: YAML is indented with spaces only")
    return Fault((), line, f"cannot be read: {_QUOTED.sub(_quote, said)}")


def _quote(match: re.Match[str]) -> str:
    quoted = match[1] if match[1] is not None else match[2]
    return match[0] if _SAFE_TO_QUOTE.fullmatch(quoted) else "'…'"
