"""Checks data against a JSON Schema: the part of the standard (draft 2020-12) that report.schema.json uses.

There are libraries for this, but kvmprobe must run as one file on bare hosts. The tests compare these answers with
those of the package `jsonschema`.
"""

from __future__ import annotations

import functools
import json
import os
import re
from typing import Any

Schema = dict[str, Any]

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}


@functools.lru_cache(maxsize=1)
def report_schema() -> Schema:
    """The schema of reports, from report.schema.json. Whoever calls it must not change it."""
    # By the loader, because kvmprobe may be in a zip file.
    data = __spec__.loader.get_data(os.path.join(os.path.dirname(__file__), "report.schema.json"))  # type: ignore
    schema: Schema = json.loads(data)
    return schema


def first_error(value: object, schema: Schema, root: Schema, where: str = "") -> str | None:
    """Where and how `value` first breaks `schema`, whose $refs point into `root`, in one line; None where it does not.

    `where`: the path of `value` in the whole document.
    """
    if "$ref" in schema:
        return first_error(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, where)
    if "anyOf" in schema:
        errors = [first_error(value, option, root, where) for option in schema["anyOf"]]
        return None if None in errors else max((error for error in errors if error), key=len)
    if "const" in schema and (value != schema["const"] or type(value) is not type(schema["const"])):
        return f"{where or 'it'} is not {json.dumps(schema['const'])}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{where or 'it'} is none of {', '.join(map(str, schema['enum']))}"
    kind = schema.get("type")
    if kind and not _is_of(value, kind):
        return f"{where or 'it'} is not of type {kind}"
    if isinstance(value, str):
        return _string(value, schema, where)
    if isinstance(value, dict):
        return _object(value, schema, root, where)
    if isinstance(value, list):
        return _array(value, schema, root, where)
    if isinstance(value, (int, float)) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        return f"{where or 'it'} is out of range"
    return None


def _is_of(value: object, kind: str) -> bool:
    if isinstance(value, bool):  # an int in Python, not in JSON
        return kind == "boolean"
    if isinstance(value, float) and kind == "integer":
        return value.is_integer()  # 1.0 is an integer to JSON Schema
    return isinstance(value, TYPES[kind])


def _string(value: str, schema: Schema, where: str) -> str | None:
    if "pattern" in schema and not re.search(schema["pattern"].replace("$", r"\Z"), value):
        return f"{where or 'it'} does not match {schema['pattern']}"
    return None


def _object(value: dict[str, object], schema: Schema, root: Schema, where: str) -> str | None:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            return f"{where}.{name} is missing".lstrip(".")
    for name, item in value.items():
        path = f"{where}.{name[:40].encode('unicode_escape').decode()}".lstrip(".")  # one line, whatever the name
        error = first_error(name, schema.get("propertyNames", {}), root, f"the name {path}")
        rule = properties.get(name, schema.get("additionalProperties", {}))
        error = error or first_error(item, rule, root, path)
        if error:
            return error
    return None


def _array(value: list[object], schema: Schema, root: Schema, where: str) -> str | None:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        return f"{where or 'it'} has {len(value)} items"
    for index, item in enumerate(value):
        error = first_error(item, schema.get("items", {}), root, f"{where}[{index}]")
        if error:
            return error
    return None
