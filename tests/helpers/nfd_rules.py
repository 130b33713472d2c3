"""What node-feature-discovery does with feature files and NodeFeatureRules, written from its documentation.

The reader is strict: it raises ValueError where nfd-worker logs an error or drops a line.
"""

from __future__ import annotations

import datetime
import re
from typing import Any, NamedTuple

MAX_FILE = 65536  # bytes, since NFD 0.14
NAMESPACE = "feature.node.kubernetes.io"  # NFD accepts no other namespace of kubernetes.io but this and those below it

# Labels that the API server accepts (apimachinery's IsQualifiedName and IsValidLabelValue).
_WORD = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?", re.ASCII)
_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.ASCII)


def check_name(name: str) -> None:
    """Assert that `name` can be the name of a label."""
    namespace, slash, word = name.partition("/")
    assert slash, f"{name}: NFD deprecates names without a namespace"
    assert len(namespace) <= 253, name
    assert _SUBDOMAIN.fullmatch(namespace), name
    assert namespace == NAMESPACE or namespace.endswith(f".{NAMESPACE}"), name
    assert len(word) <= 63, name
    assert _WORD.fullmatch(word), name


def check_value(value: str) -> None:
    """Assert that `value` can be the value of a label."""
    assert not value or (len(value) <= 63 and _WORD.fullmatch(value)), value


class Read(NamedTuple):
    """A feature file as NFD reads it: features, node labels, times of expiry."""

    features: dict[str, str]
    labels: dict[str, str]
    expiry: set[str]


def read(data: bytes, now: datetime.datetime) -> Read:
    """Read a feature file as nfd-worker does at the time `now`. Raises ValueError."""
    if len(data) > MAX_FILE:
        raise ValueError(f"{len(data)} bytes")
    found = Read({}, {}, set())
    ends = None
    hidden = False
    for line in data.decode("ascii").split("\n"):
        if line != line.strip():
            raise ValueError(f"spaces around {line!r}")
        if line.startswith("# +"):
            key, _, value = line[3:].partition("=")
            if key == "expiry-time":
                # RFC 3339, which Go's time.Parse takes; a year has four digits.
                if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value, re.ASCII):
                    raise ValueError(line)
                ends = datetime.datetime.strptime(value, "%Y-%m-%dT%H:%M:%S%z")
                found.expiry.add(value)
            elif line == "# +no-label":
                hidden = True
            else:
                raise ValueError(f"unknown directive: {line}")
        elif line and not line.startswith("#"):
            if ends is None:
                raise ValueError(f"never expires: {line}")
            name, equals, value = line.partition("=")
            if not equals or name in found.features or name in found.labels:
                raise ValueError(line)
            if ends >= now:
                found.features[name] = value
                if not hidden:
                    found.labels[name] = value
            hidden = False
    return found


class Node(NamedTuple):
    """What nfd-master sets on a node."""

    labels: dict[str, str]
    taints: set[tuple[str, str, str]]


def evaluate(rules: Any, available: dict[str, dict[str, str]]) -> Node:
    """Apply the rules of a NodeFeatureRule to features of the type "attribute"."""
    node = Node({}, set())
    for rule in rules["spec"]["rules"]:
        anywhere = rule.get("matchAny")
        if anywhere is not None and not any(_matches(one["matchFeatures"], available) for one in anywhere):
            continue
        if not _matches(rule.get("matchFeatures", []), available):
            continue
        node.labels.update(rule.get("labels", {}))
        node.taints.update((taint["key"], taint["value"], taint["effect"]) for taint in rule.get("taints", ()))
    return node


def _matches(terms: Any, available: dict[str, dict[str, str]]) -> bool:
    for term in terms:
        elements = available.get(term["feature"])
        if elements is None:  # NFD: if a feature source is disabled, no expression matches, not even DoesNotExist
            return False
        for name, expression in term["matchExpressions"].items():
            if not _OPERATORS[expression["op"]](elements.get(name), expression.get("value", [])):
                return False
    return True


_OPERATORS: dict[str, Any] = {
    "In": lambda value, wanted: value is not None and value in wanted,
    "NotIn": lambda value, wanted: value is not None and value not in wanted,
    "Exists": lambda value, _: value is not None,
    "DoesNotExist": lambda value, _: value is None,
    "IsTrue": lambda value, _: value == "true",
    "IsFalse": lambda value, _: value == "false",
}
