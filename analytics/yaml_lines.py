"""YAML that remembers its lines, so that an error about a key can name the line it stands on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from analytics.errors import SettingsError

MAX_BYTES = 4 * 1024 * 1024

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

    Raises SettingsError when the file is missing, larger than 4 MiB, not YAML, repeats a key, or uses aliases
    (an alias can grow a small file without bound).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"cannot be read ({error.strerror})", where=str(path), fix="Check the path, or run `quarterdeck init`."
        ) from error
    if len(data) > MAX_BYTES:
        raise SettingsError(f"is larger than {MAX_BYTES} bytes", where=str(path))
    try:
        text = data.decode("utf-8")
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise SettingsError.at(
                    path,
                    event.start_mark.line + 1 if event.start_mark else None,
                    "YAML aliases are not accepted",
                    "Write the value out.",
                )
        documents = []
        for node in yaml.compose_all(text, Loader=yaml.SafeLoader):
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
    except (yaml.MarkedYAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error) or type(error).__name__
        raise SettingsError.at(path, mark.line + 1 if mark else None, f"not valid YAML: {what}") from error


def _walk(node: yaml.Node, location: Location, lines: dict[Location, int], path: Path) -> None:
    lines.setdefault(location, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key_node, value_node in node.value:
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
