"""Generate JSON schemas (draft 2020-12) from the rules that the readers of YAML files check."""

from __future__ import annotations

import json
from typing import Any, Final

from chainbuild.yamlspec.rules import (
    ArgValueRule,
    BooleanRule,
    IntegerRule,
    KeyRule,
    ListRule,
    MapRule,
    Rule,
    TableRule,
    TextOrTableRule,
    TextRule,
)

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema_of(rules: TableRule, title: str, description: str) -> dict[str, Any]:
    """Return the schema of a file that follows these rules."""
    return {"$schema": _DIALECT, "title": title, "description": description} | _table(rules)


def as_text(document: dict[str, Any]) -> str:
    """Return a schema as the text that is published."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _of(rule: Rule) -> dict[str, Any]:
    match rule:
        case TextRule():
            return _text(rule)
        case BooleanRule():
            return {"type": "boolean", "default": rule.default}
        case IntegerRule():
            most = {"maximum": rule.most} if rule.most is not None else {}
            return {"type": "integer", "minimum": rule.least} | most
        case ArgValueRule():
            return {"type": ["string", "number", "boolean", "null"]}
        case ListRule():
            item = _of(rule.item)
            unique = {"uniqueItems": True} if isinstance(rule.item, TextRule) else {}
            least = {} if rule.empty else {"minItems": 1}
            several = {"type": "array", "items": item} | least | unique
            return {"anyOf": [item, several]} if rule.alone else several
        case MapRule():
            return {
                "type": "object",
                "propertyNames": {key: value for key, value in _text(rule.key).items() if key != "type"},
                "additionalProperties": _of(rule.value),
            }
        case TextOrTableRule():
            return {"anyOf": [_text(rule.text), _of(rule.table)]}
        case TableRule():
            return _table(rule)


def _text(rule: TextRule) -> dict[str, Any]:
    document: dict[str, Any] = {"type": ["string", "null"] if rule.blank else "string", "minLength": 1}
    if rule.pattern:
        document["pattern"] = rule.pattern
    if rule.choices:
        document["enum"] = list(rule.choices)
    if rule.examples:
        document["examples"] = list(rule.examples)
    return document


def _table(rule: TableRule) -> dict[str, Any]:
    needed = [name for name, key in rule.keys.items() if key.needed]
    document: dict[str, Any] = {
        "type": "object",
        "properties": {name: _key(key) for name, key in rule.keys.items()},
        "additionalProperties": False,
    }
    if needed:
        document["required"] = needed
    if rule.any_of:
        document["anyOf"] = [{"required": [name]} for name in rule.any_of]
    return document


def _key(key: KeyRule) -> dict[str, Any]:
    return {"description": key.about} | _of(key.rule)
