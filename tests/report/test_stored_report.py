"""Stored reports: read where they are evidence, refused with one clear line and exit status 65 where they are not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmprobe.formats import text
from kvmprobe.judge import judge
from kvmprobe.model.compiled_schema import compile_schema
from kvmprobe.model.errors import DataProblem
from kvmprobe.model.json_schema import first_error, report_schema
from kvmprobe.model.verdict_status import EXIT_STATUS
from kvmprobe.report.stored_report import load
from tests.helpers.counted import NUMBERS
from tests.helpers.recorded_evidence import RECORDED, recorded_name
from tests.helpers.run_kvmprobe import kvmprobe
from tests.helpers.stored_files import ANYTHING, BAD, REPORT, REPORTS, changed, paths


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_refused_in_one_line(data: bytes, tmp_path: Path) -> None:
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
def test_a_file_that_cannot_be_read_is_named(path: str) -> None:
    done = kvmprobe("judge", path)
    assert (done.returncode, done.stdout) == (65, "")
    assert path in done.stderr


def test_a_report_bare_evidence_and_standard_input_are_all_read(tmp_path: Path) -> None:
    (tmp_path / "evidence.json").write_text(json.dumps(REPORT["evidence"]))
    bare = kvmprobe("judge", tmp_path / "evidence.json", "--json")
    piped = kvmprobe("judge", "-", "--json", input=json.dumps(REPORT))
    assert bare.returncode == piped.returncode == 0
    judged = json.loads(bare.stdout)
    assert judged.pop("features")  # in JSON alone, anew each time
    assert judged == REPORT
    assert bare.stdout == piped.stdout


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
def test_every_judged_report_follows_the_schema(path: Path) -> None:
    schema = report_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    report = judge(json.loads(path.read_text())["evidence"])
    jsonschema.validate(report, schema)
    assert first_error(report, schema, schema) is None


MUTATED = {"judged": 0, "refused": 0}


@pytest.fixture(scope="module", autouse=True)
def mutations() -> Iterator[None]:
    """Counts the mutated reports for the summary of the test run. A wrong one has failed."""
    yield
    if any(MUTATED.values()):
        NUMBERS.append(f"mutated reports: {MUTATED['judged']} judged, {MUTATED['refused']} refused, 0 wrong")


COMPILED = compile_schema(report_schema(), report_schema())


@settings(max_examples=400)
@given(
    place=st.sampled_from([(report, path) for report in REPORTS for path in paths(report) if path]),
    value=st.just(...) | st.sampled_from([None, "", "0x0", "0-7", {"error": "EIO"}, -1, True, [], {}]) | ANYTHING,
)
def test_mutated_report_is_judged_or_refused(place: tuple[Any, Any], value: Any, tmp_path_factory: Any) -> None:
    """Whatever value one field has: a judgement or a DataProblem. first_error(), the compiled schema and
    jsonschema find the same errors."""
    report, path = place
    data = changed(*path, value=value, report=report)
    file = tmp_path_factory.getbasetemp() / "mutated.json"
    file.write_bytes(data)
    mutated = json.loads(data)
    schema = report_schema()
    ours = first_error(mutated, schema, schema)
    theirs = next(jsonschema.Draft202012Validator(schema).iter_errors(mutated), None)
    assert (ours is None) == (theirs is None) == COMPILED(mutated), (ours, theirs)
    report = refused = None
    try:
        report = judge(*load(str(file)))
    except DataProblem as problem:
        refused = problem.message
    MUTATED["judged" if report else "refused"] += 1
    if report:
        assert report["verdict"]["status"] in EXIT_STATUS
        assert text.render(report, 1)
    else:
        assert refused
        assert "\n" not in refused
