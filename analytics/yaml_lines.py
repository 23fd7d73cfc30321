"""YAML that remembers its lines, so that an error about a key can name the line it stands on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from analytics.errors import SettingsError

MAX_BYTES = 4 * 1024 * 1024
# The parser's time grows with the square of the depth: 20,000 open brackets would take minutes.
MAX_DEPTH = 64
# Of a value that is no text: a longer number cannot even be printed in an error about it.
MAX_VALUE_CHARACTERS = 100
# The parser in C, where PyYAML was built with one, takes a tenth of the time. It reads tabs, marks of byte order, line
# breaks of other systems, tags, directives, `? ` in a flow and `|#` otherwise here and there: a text with one of these
# is not given to it.
_FAST_LOADER: type[Any] | None = getattr(yaml, "CSafeLoader", None)
_READ_OTHERWISE = re.compile(
    "[^\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|[!%?]|[|>][-+0-9]*#"
)
_TEXT_TAGS = frozenset({"tag:yaml.org,2002:str", "tag:yaml.org,2002:binary"})
# What the constructors of the library raise for a value that does not fit its tag, such as `!!bool maybe`.
_MISFITS = (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError, ArithmeticError)

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class YamlDocument:
    """One document of a YAML file: its plain value and the line of every key and list item."""

    path: Path
    value: Any
    lines: dict[Location, int]

    def line(self, location: Sequence[str | int]) -> int | None:
        """The line of a key, or of its nearest parent that has one."""
        key = tuple(location)
        while key not in self.lines and key:
            key = key[:-1]
        return self.lines.get(key)


def read_yaml(path: Path) -> list[YamlDocument]:
    """Read every document of a YAML file.

    Raises SettingsError when the file is missing, larger than 4 MiB, not YAML, nested deeper than 64 levels, repeats a
    key, or uses aliases (an alias can grow a small file without bound).
    """
    try:
        # Never whole: a device has no end.
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SettingsError(
            f"cannot be read ({error.strerror})", where=str(path), fix="Check the path, or run `quarterdeck init`."
        ) from error
    if len(data) > MAX_BYTES:
        raise SettingsError(f"is larger than {MAX_BYTES} bytes", where=str(path))
    try:
        text = data.decode("utf-8")
        if _FAST_LOADER is not None and not _READ_OTHERWISE.search(text):
            # What is refused is read again, so that an error has the same words and line everywhere; and so is what
            # is empty, for which the two know different lines.
            with suppress(SettingsError, *_MISFITS):
                documents = _documents(path, text, _FAST_LOADER)
                if all(document.value is not None for document in documents):
                    return documents
        return _documents(path, text, yaml.SafeLoader)
    except _MISFITS as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).partition("\n")[0] or type(error).__name__
        if not isinstance(error, (yaml.YAMLError, ValueError)):
            what = f"a value does not fit its tag ({what})"
        raise SettingsError.at(path, mark.line + 1 if mark else None, f"not valid YAML: {what}") from error


def _documents(path: Path, text: str, loader: type[Any]) -> list[YamlDocument]:
    depth = 0
    # Before anything is composed, which is done level by level on the stack.
    for event in yaml.parse(text, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        line = event.start_mark.line + 1 if event.start_mark else None
        if depth > MAX_DEPTH:
            raise SettingsError.at(path, line, f"nests deeper than {MAX_DEPTH} levels", "Write it flatter.")
        if isinstance(event, yaml.AliasEvent):
            raise SettingsError.at(path, line, "YAML aliases are not accepted", "Write the value out.")
    documents = []
    for node in yaml.compose_all(text, Loader=loader):
        if node is None:
            continue
        lines: dict[Location, int] = {}
        _walk(node, (), lines, path)
        constructor = yaml.SafeLoader("")
        try:
            value = constructor.construct_document(node)
        finally:
            constructor.dispose()
        documents.append(YamlDocument(path, value, lines))
    return documents


def _walk(node: yaml.Node, location: Location, lines: dict[Location, int], path: Path) -> None:
    lines.setdefault(location, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        _check_scalar(node, path)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key_node, value_node in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                _check_scalar(key_node, path)
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in seen:
                raise SettingsError.at(path, line, f"key '{key}' stands twice", "Keep one of them.")
            seen.add(key)
            lines[(*location, key)] = line
            _walk(value_node, (*location, key), lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*location, index)] = item.start_mark.line + 1
            _walk(item, (*location, index), lines, path)


def _check_scalar(node: yaml.ScalarNode, path: Path) -> None:
    """Refuse what could be read but never used: NUL, half of a surrogate pair, and numbers without bound."""
    line = node.start_mark.line + 1
    if "\0" in node.value:
        raise SettingsError.at(path, line, "holds a NUL character, which no name or path has", "Remove it.")
    if node.tag not in _TEXT_TAGS and len(node.value) > MAX_VALUE_CHARACTERS:
        raise SettingsError.at(
            path, line, f"a number of {len(node.value):,} characters", "Shorten it, or quote it if it is a name."
        )
    try:
        node.value.encode()
    except UnicodeEncodeError as error:
        raise SettingsError.at(path, line, "holds half of a surrogate pair, which is no text") from error
