"""Files that are not what they should be: one clear line, exit status 65."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvmprobe.errors import DataProblem
from kvmprobe.formats import text
from kvmprobe.judge import judge
from kvmprobe.load import load
from kvmprobe.schema import first_error, report_schema
from tests.conftest import EVIDENCE, NUMBERS, RECORDED, kvmprobe, recorded_name

REPORT = json.loads((EVIDENCE / "matrix/bookworm/epyc.json").read_text())
# With what each command adds.
REPORTS = [
    REPORT,
    *(
        json.loads((EVIDENCE / f"{name}.json").read_text())
        for name in ("trace/trixie-load", "watch/bookworm-qemu", "soak/bookworm-svme-not-cleared")
    ),
]


def changed(*path: Any, value: Any, report: Any = REPORT) -> bytes:
    report = copy.deepcopy(report)
    at = report
    for step in path[:-1]:
        at = at[step]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return json.dumps(report).encode()


WHOLE = json.dumps(REPORT).encode()
BAD = {
    "empty": b"",
    "not JSON": b"kvmprobe says hello\n",
    "binary": bytes(range(256)),
    "truncated": WHOLE[: len(WHOLE) // 2],
    "NaN": WHOLE.replace(b'"duration_ms": ', b'"duration_ms": NaN, "x": ', 1),
    "infinite": WHOLE.replace(b'"duration_ms": ', b'"duration_ms": 1e999, "x": ', 1),
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
    "CPUs backwards": changed("evidence", "cpus", "online", value="5-3"),
    "a million CPUs": changed("evidence", "cpus", "online", value="0-99999"),
    "no CPU stayed": changed("evidence", "cpus", "online_at_end", value="7"),
    "leaf of three": changed("evidence", "cpus", "cpuid", "0", "0x0", value=["0x1", "0x2", "0x3"]),
    "API version is true": changed("evidence", "ioctls", "KVM_GET_API_VERSION", value=True),
    "a huge integer": changed("evidence", "host", "euid", value=10**400),
    "modules is a list": changed("evidence", "modules", value=[]),
    "nested where nobody looks": changed("evidence", "weather", value=json.loads("[" * 600 + "]" * 600)),
    "CPUs not ascending": changed("evidence", "cpus", "online", value=",".join(["0-65535"] * 100_000)),
    "a CPU with control characters": changed("evidence", "snapshots", 0, "cpus", "\x1b]0;owned\x07", value={}),
    "a name of three lines": changed("evidence", "modules", "kvm_amd", "parameters", "a\nb\nc", value="1"),
    "guest result unknown": changed("evidence", "guest", 0, "result", value="great"),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_bad_file(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(data)
    done = kvmprobe("judge", path)
    assert done.returncode == 65
    assert done.stdout == ""
    assert done.stderr.startswith(f"kvmprobe: {path}: ")
    assert len(done.stderr.splitlines()) <= 2
    assert len(done.stderr) < 700
    assert done.stderr.replace("\n", "").isprintable()


@pytest.mark.parametrize("path", ["/nonexistent/report.json", "/", "/proc/self/mem"])
def test_unreadable_file(path: str) -> None:
    done = kvmprobe("judge", path)
    assert (done.returncode, done.stdout) == (65, "")
    assert path in done.stderr


def test_a_report_bare_evidence_and_standard_input_are_all_read(tmp_path: Path) -> None:
    (tmp_path / "evidence.json").write_text(json.dumps(REPORT["evidence"]))
    bare = kvmprobe("judge", tmp_path / "evidence.json", "--json")
    piped = kvmprobe("judge", "-", "--json", input=json.dumps(REPORT))
    assert bare.returncode == piped.returncode == 0
    assert json.loads(bare.stdout) == json.loads(piped.stdout) == REPORT


def test_fields_of_later_versions_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(changed("evidence", "weather", value="fine"))
    assert kvmprobe("judge", tmp_path / "report.json").returncode == 0


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(changed("evidence", "host", "name", value="\x1b]0;owned\x07\ud800"))
    done = kvmprobe("judge", "-v", tmp_path / "report.json")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "\\x1b]0;owned\\x07\\ud800" in done.stdout


@pytest.mark.parametrize("path", RECORDED, ids=recorded_name)
def test_reports_follow_the_schema(path: Path) -> None:
    schema = report_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    report = judge(json.loads(path.read_text())["evidence"])
    jsonschema.validate(report, schema)
    assert first_error(report, schema, schema) is None


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside `value`."""
    items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    return [here, *(path for key, item in items for path in paths(item, (*here, key)))]


MUTATED = {"judged": 0, "refused": 0}


@pytest.fixture(scope="module", autouse=True)
def mutations() -> Iterator[None]:
    """Says in the end how many there were: a wrong one would have failed."""
    yield
    if any(MUTATED.values()):
        NUMBERS.append(f"mutated reports: {MUTATED['judged']} judged, {MUTATED['refused']} refused, 0 wrong")


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    place=st.sampled_from([(report, path) for report in REPORTS for path in paths(report) if path]),
    value=st.just(...) | st.sampled_from([None, "", "0x0", "0-7", {"error": "EIO"}, -1, True, [], {}]) | ANYTHING,
)
def test_mutated_report_is_judged_or_refused(place: tuple[Any, Any], value: Any, tmp_path_factory: Any) -> None:
    """Whatever one place says: a judgement or a DataProblem; and our reading of the schema is jsonschema's."""
    report, path = place
    data = changed(*path, value=value, report=report)
    file = tmp_path_factory.getbasetemp() / "mutated.json"
    file.write_bytes(data)
    mutated = json.loads(data)
    schema = report_schema()
    ours = first_error(mutated, schema, schema)
    theirs = next(jsonschema.Draft202012Validator(schema).iter_errors(mutated), None)
    assert (ours is None) == (theirs is None), (ours, theirs)
    report = refused = None
    try:
        report = judge(load(str(file)))
    except DataProblem as problem:
        refused = problem.message
    MUTATED["judged" if report else "refused"] += 1
    if report:
        assert report["verdict"]["status"] in ("confirmed", "failed", "inconclusive", "not applicable")
        assert text.render(report, 1)
    else:
        assert refused
        assert "\n" not in refused
