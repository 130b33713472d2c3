"""Files that kvmprobe did not write, or that were changed since: what commands that read reports must reject."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

from tests.helpers.recorded_evidence import EVIDENCE

REPORT = json.loads((EVIDENCE / "matrix/bookworm/epyc.json").read_text())


# With the evidence that each command adds.
REPORTS = [
    REPORT,
    *(
        json.loads((EVIDENCE / f"{name}.json").read_text())
        for name in ("trace/trixie-load", "watch/bookworm-qemu", "soak/bookworm-svme-not-cleared")
    ),
]


def changed(*path: Any, value: Any, report: Any = REPORT) -> bytes:
    """A report in JSON with another `value` at `path`; without that key where `value` is ... (Ellipsis)."""
    report = copy.deepcopy(report)
    at = report
    for step in path[:-1]:
        at = at[step]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return json.dumps(report).encode()


_WHOLE = json.dumps(REPORT).encode()


BAD = {
    "empty": b"",
    "not JSON": b"kvmprobe: hello\n",
    "binary": bytes(range(256)),
    "truncated": _WHOLE[: len(_WHOLE) // 2],
    "NaN": _WHOLE.replace(b'"duration_ms": ', b'"duration_ms": NaN, "x": ', 1),
    "infinite": _WHOLE.replace(b'"duration_ms": ', b'"duration_ms": 1e999, "x": ', 1),
    "deep": b"[" * 1_000_000,
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "another object": b'{"a": 1}',
    "unknown schema": changed("schema", value="kvmprobe.report/9"),
    "schema of another type": changed("schema", value=["kvmprobe.report/1"]),
    "evidence is null": changed("evidence", value=None),
    "evidence is text": changed("evidence", value="trust me"),
    "no snapshots": changed("evidence", "snapshots", value=...),
    "unknown phase": changed("evidence", "snapshots", 0, "phase", value="during"),
    "register is a number": changed("evidence", "snapshots", 0, "cpus", "0", "EFER", value=3329),
    "register is no hex": changed("evidence", "snapshots", 0, "cpus", "0", "EFER", value="0xzz"),
    "register of 65 bits": changed("evidence", "snapshots", 0, "cpus", "0", "EFER", value="0x" + "f" * 17),
    "register missing": changed("evidence", "snapshots", 0, "cpus", "0", "EFER", value=...),
    "CPU is no number": changed("evidence", "snapshots", 0, "cpus", "../0", value={}),
    "no CPU online": changed("evidence", "cpus", "online", value=""),
    "CPUs in descending order": changed("evidence", "cpus", "online", value="5-3"),
    "a million CPUs": changed("evidence", "cpus", "online", value="0-99999"),
    "no CPU online throughout": changed("evidence", "cpus", "online_at_end", value="7"),
    "leaf of three": changed("evidence", "cpus", "cpuid", "0", "0x0", value=["0x1", "0x2", "0x3"]),
    "API version is true": changed("evidence", "ioctls", "KVM_GET_API_VERSION", value=True),
    "a huge integer": changed("evidence", "host", "euid", value=10**400),
    "modules is a list": changed("evidence", "modules", value=[]),
    "nested deeply in an unknown field": changed("evidence", "weather", value=json.loads("[" * 600 + "]" * 600)),
    "CPUs not ascending": changed("evidence", "cpus", "online", value=",".join(["0-65535"] * 100_000)),
    "a CPU with control characters": changed("evidence", "snapshots", 0, "cpus", "\x1b]0;owned\x07", value={}),
    "a name of three lines": changed("evidence", "modules", "kvm_amd", "parameters", "a\nb\nc", value="1"),
    "guest result unknown": changed("evidence", "guest", 0, "result", value="great"),
}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of each value inside `value`, and of itself."""
    items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    return [here, *(path for key, item in items for path in paths(item, (*here, key)))]
