"""The base of settings and catalog models: unknown keys are refused with the nearest known one named."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from analytics.errors import SettingsError
from analytics.yaml_lines import YamlDocument


class StrictModel(BaseModel):
    """A frozen model whose unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            known = {field.alias or name for name, field in cls.model_fields.items()} | set(cls.model_fields)
            for key in data:
                if key not in known:
                    raise unknown_key(str(key), known)
        return data


def unknown_key(key: str, known: Collection[str]) -> PydanticCustomError:
    """The error of a key that nobody knows, with the nearest one that is known."""
    near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.5)
    hint = f"Did you mean '{near[0]}'?" if near else f"Known keys: {', '.join(sorted(known))}."
    return PydanticCustomError("unknown_key", "unknown key '{key}'", {"key": key, "hint": hint})


M = TypeVar("M", bound=BaseModel)


def parse_model(model: type[M], document: YamlDocument, value: Any, at: tuple[str | int, ...] = ()) -> M:
    """Validate one value of a document, or raise SettingsError with file, line, key and what to do."""
    if not isinstance(value, Mapping):
        raise SettingsError.at(
            document.path, document.line(at), f"expected a mapping of keys, found {type(value).__name__}"
        )
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        location: tuple[str | int, ...] = (*at, *(part for part in first["loc"] if isinstance(part, int | str)))
        context = first.get("ctx", {})
        fix = str(context["hint"]) if "hint" in context else None
        if first["type"] == "unknown_key":
            location = (*location, str(context["key"]))
        # Discriminated unions put the chosen tag into the location; it is no key of the file.
        location = tuple(p for i, p in enumerate(location) if not _is_tag(document, location[:i], p))
        key = ".".join(str(part) for part in location)
        message = first["msg"].removeprefix("Value error, ")
        others = error.error_count() - 1
        more = f" (and {others} more)" if others else ""
        raise SettingsError.at(
            document.path, document.line(location), f"{key}: {message}{more}" if key else message + more, fix
        ) from error


def _is_tag(document: YamlDocument, parent: tuple[str | int, ...], part: str | int) -> bool:
    return (
        isinstance(part, str)
        and (parent[0] == "sources" if len(parent) == 2 else parent[:2] == ("reports", "delivery") and len(parent) == 3)
        and (*parent, part) not in document.lines
    )
