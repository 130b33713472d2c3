"""The arguments and files of `kvmprobe compare`: wrong, damaged and changed ones, standard input."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmprobe.compare import comparison_text, report_pairs
from kvmprobe.compare.comparison_json import comparison_data
from kvmprobe.model.errors import DataProblem
from tests.helpers.compared_reports import COMPARE_SCHEMA, CONFIRMED, FAILED, NAMES, write_json
from tests.helpers.recorded_evidence import EVIDENCE, recorded
from tests.helpers.run_kvmprobe import PROJECT, kvmprobe
from tests.helpers.stored_files import ANYTHING, BAD, paths


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 64, "required"),
        (("a.json",), 64, "required"),
        (("a.json", "folder"), 64, "OLD a.json is a file, NEW folder is a folder"),
        (("folder", "-"), 64, "NEW - is a file"),
        (("-", "-"), 64, "both"),
        (("a.json", "a.json", "-o", "nowhere/x"), 64, "no folder"),
        (("a.json", "b.json"), 65, "b.json: cannot be read: No such file"),
        (("a.json", "bad.json"), 65, "bad.json: not JSON"),
        (("folder", "empty"), 65, "empty: there is no report in it"),
        (("summary", "summary"), 65, "no report is in both (both have no report)"),
        (("folder", "other"), 65, "no report is in both (epyc is only in OLD)"),
    ],
)
def test_wrong_arguments(arguments: tuple[str, ...], status: int, message: str, tmp_path: Path) -> None:
    for name in ("a.json", "folder/epyc.json", "other/x.json"):
        write_json(tmp_path / name, recorded(CONFIRMED))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text("?")
    run = {"kernel": "trixie", "scenario": "epyc", "verdict": "lost", "reason": "timed out"}
    write_json(tmp_path / "summary/summary.json", [run])
    environment = {"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin"}
    done = kvmprobe("compare", *arguments, cwd=tmp_path, env=environment, input="")
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_damaged_files(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(data)
    good = str(EVIDENCE / f"{CONFIRMED}.json")
    for old, new in ((good, str(tmp_path / "bad.json")), (str(tmp_path / "bad.json"), good)):
        with pytest.raises(DataProblem) as problem:
            report_pairs.read(old, new)
        assert problem.value.exit_status == 65


def test_standard_input_bare_evidence_and_a_file_for_the_result(tmp_path: Path) -> None:
    new = write_json(tmp_path / "new.json", recorded(FAILED))
    text = (EVIDENCE / f"{CONFIRMED}.json").read_text()
    done = kvmprobe("compare", "-", new, "-q", "-o", tmp_path / "result", input=text)
    assert (done.returncode, done.stdout) == (1, "")
    assert (tmp_path / "result").read_text() == "WORSE: values: 2 worse, 8 changed, 105 same\n"


CHANGED = {name: recorded(name) for name in (CONFIRMED, "trace/trixie-load")}
PLACES = [(name, path) for name, evidence in CHANGED.items() for path in paths(evidence) if path]


@settings(max_examples=400)
@given(
    place=st.sampled_from(PLACES),
    value=st.just(...) | st.sampled_from([None, "", "0x0", "0", "0-7", {"error": "EIO"}, -1, True, [], {}]) | ANYTHING,
    other=st.sampled_from(NAMES),
)
def test_changed_evidence_is_compared_or_rejected(place: Any, value: Any, other: str, tmp_path_factory: Any) -> None:
    name, path = place
    evidence = copy.deepcopy(CHANGED[name])
    within = evidence
    for step in path[:-1]:
        within = within[step]
    if value is ...:
        del within[path[-1]]
    else:
        within[path[-1]] = value
    file = str(write_json(tmp_path_factory.getbasetemp() / "compared.json", evidence))
    against = str(EVIDENCE / f"{other}.json")
    try:
        found = [report_pairs.read(file, against), report_pairs.read(against, file)]
    except DataProblem:
        return
    for comparison in found:
        assert comparison.exit_status() in (0, 1)
        jsonschema.validate(comparison_data(comparison, True), COMPARE_SCHEMA)
        assert comparison_text.render(comparison, 1).replace("\n", "").isprintable()
