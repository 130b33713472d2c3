"""`kvmprobe compare` as it is run: files, folders of a real matrix, what is damaged, and how the result is written."""

from __future__ import annotations

import copy
import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmprobe.compare import AREAS, comparison_cases, comparison_text, report_pairs
from kvmprobe.compare.comparison_json import comparison_data
from kvmprobe.compare.difference import SAME, WORSE
from kvmprobe.model.errors import DataProblem
from tests.helpers import strict_ktap
from tests.helpers.compared_reports import CONFIRMED, FAILED, KERNELS, MATRIX, NAMES, SUPPRESS
from tests.helpers.recorded_evidence import EVIDENCE, RECORDED, recorded
from tests.helpers.run_kvmprobe import PROJECT, kvmprobe
from tests.helpers.stored_files import ANYTHING, BAD, paths

SCHEMA = json.loads((PROJECT / "kvmprobe/model/compare.schema.json").read_text())


def write(path: Path, evidence: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(evidence))
    return path


@pytest.mark.parametrize(("old", "new"), [*itertools.permutations(KERNELS, 2)])
def test_kernels_pairwise(old: str, new: str) -> None:
    """A newer kernel is never worse than the last one; every scenario of both is compared or named."""
    found = report_pairs.read(str(MATRIX / old), str(MATRIX / new))
    scenarios = {path.stem for kernel in (old, new) for path in (MATRIX / kernel).iterdir()}
    assert {pair.name for pair in found.pairs} | {single.name for single in found.singles} == scenarios
    ages = ("bullseye", "bookworm", "trixie", "trixie-backports")
    assert found.exit_status() == 0 or ages.index(new) < ages.index(old)
    text = comparison_text.render(found)
    assert all(single.name in text for single in found.singles)


def test_the_whole_matrix_is_the_same_as_itself() -> None:
    done = kvmprobe("compare", MATRIX, MATRIX)
    count = len([path for path in RECORDED if MATRIX in path.parents])
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"SAME: reports: {count} same")


def test_folders_of_one_kernel_each_match_by_scenario(tmp_path: Path) -> None:
    for side, kernel in (("old", "bookworm"), ("new", "trixie")):
        for scenario in ("epyc", "hygon"):
            write(tmp_path / side / kernel / f"{scenario}.json", recorded(f"matrix/{kernel}/{scenario}"))
    found = report_pairs.read(str(tmp_path / "old"), str(tmp_path / "new"))
    assert [pair.name for pair in found.pairs] == ["epyc", "hygon"]
    assert not found.singles


def test_a_bad_file_hides_neither_the_others_nor_what_is_worse(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        for scenario in ("epyc", "hygon"):
            write(folder / f"{scenario}.json", recorded(f"matrix/bookworm/{scenario}"))
    (new / "hygon.json").write_text("{")
    done = kvmprobe("compare", old, new)
    assert done.returncode == 65
    assert f"{new / 'hygon.json'}: not JSON" in done.stderr
    assert f"not compared: {new / 'hygon.json'}: not JSON" in done.stdout
    assert done.stdout.splitlines()[-1] == "SAME: reports: 1 same; 1 could not be compared"
    write(new / "epyc.json", recorded("matrix/bookworm/held-first"))
    done = kvmprobe("compare", "-q", old, new)
    assert (done.returncode, done.stdout) == (1, "WORSE: reports: 1 worse; 1 could not be compared\n")


def test_a_report_that_the_lab_lost_is_worse_and_one_not_made_is_named(tmp_path: Path) -> None:
    for side in ("old", "new"):
        for scenario in ("epyc", "hygon", "no-npt"):
            write(tmp_path / side / "trixie" / f"{scenario}.json", recorded(f"matrix/trixie/{scenario}"))
    cell = {"kernel": "trixie", "scenario": "hygon", "verdict": "lost", "reason": "timed out: 120 s"}
    write(tmp_path / "new/summary.json", [cell])
    (tmp_path / "new/trixie/no-npt.json").unlink()
    done = kvmprobe("compare", tmp_path / "old", tmp_path / "new")
    assert done.returncode == 0
    assert "[NOT COMPARABLE] trixie/no-npt: is only in OLD, not in NEW" in done.stdout
    (tmp_path / "new/trixie/hygon.json").unlink()
    for old, new, name in (("old", "new", "trixie/hygon"), ("old/trixie", "new/trixie", "hygon")):
        done = kvmprobe("compare", tmp_path / old, tmp_path / new)
        line = f"[    WORSE     ] {name}: is only in OLD, not in NEW (there it was run: lost, timed out: 120 s)"
        assert line in done.stdout
        assert done.returncode == 1
    assert kvmprobe("compare", tmp_path / "new", tmp_path / "old").returncode == 0
    (tmp_path / "new/trixie/epyc.json").unlink()
    done = kvmprobe("compare", "-q", tmp_path / "old", tmp_path / "new")
    assert (done.returncode, done.stdout) == (1, "WORSE: reports: 1 worse, 2 not comparable\n")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((), 64, "required"),
        (("a.json",), 64, "required"),
        (("a.json", "folder"), 64, "OLD a.json is a file, NEW folder is a folder"),
        (("folder", "-"), 64, "NEW - is a file"),
        (("-", "-"), 64, "both"),
        (("a.json", "a.json", "-o", "nowhere/x"), 64, "there is no folder"),
        (("a.json", "b.json"), 65, "b.json: cannot be read: No such file"),
        (("a.json", "bad.json"), 65, "bad.json: not JSON"),
        (("folder", "empty"), 65, "empty: there is no report in it"),
        (("summary", "summary"), 65, "no report is in both (none is in either)"),
        (("folder", "other"), 65, "no report is in both (epyc is only in OLD)"),
    ],
)
def test_wrong_arguments(arguments: tuple[str, ...], status: int, said: str, tmp_path: Path) -> None:
    for name in ("a.json", "folder/epyc.json", "other/x.json"):
        write(tmp_path / name, recorded(CONFIRMED))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text("?")
    cell = {"kernel": "trixie", "scenario": "epyc", "verdict": "lost", "reason": "timed out"}
    write(tmp_path / "summary/summary.json", [cell])
    environment = {"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin"}
    done = kvmprobe("compare", *arguments, cwd=tmp_path, env=environment, input="")
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_bad_files(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(data)
    good = str(EVIDENCE / f"{CONFIRMED}.json")
    for old, new in ((good, str(tmp_path / "bad.json")), (str(tmp_path / "bad.json"), good)):
        with pytest.raises(DataProblem) as problem:
            report_pairs.read(old, new)
        assert problem.value.exit_status == 65


def test_standard_input_bare_evidence_and_a_file_for_the_result(tmp_path: Path) -> None:
    new = write(tmp_path / "new.json", recorded(FAILED))
    text = (EVIDENCE / f"{CONFIRMED}.json").read_text()
    done = kvmprobe("compare", "-", new, "-q", "-o", tmp_path / "result", input=text)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert (tmp_path / "result").read_text() == "WORSE: 2 worse, 6 changed, 84 same\n"


def test_verbose_tells_what_is_the_same() -> None:
    path = EVIDENCE / f"{CONFIRMED}.json"
    done = kvmprobe("compare", "-v", path, path)
    assert "[     SAME     ] registers EFER: 0xd01 → 0x1d01 → 0xd01\n" in done.stdout
    assert "was " not in done.stdout


@pytest.mark.parametrize(
    ("old", "new"), [(CONFIRMED, FAILED), ("trace/trixie-load", "trace/bookworm-create"), ("matrix", "matrix")]
)
def test_json_follows_its_schema(old: str, new: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    suffix = "" if old == "matrix" else ".json"
    for verbose in ((), ("-v",)):
        done = kvmprobe("compare", "--json", *verbose, f"{EVIDENCE / old}{suffix}", f"{EVIDENCE / new}{suffix}")
        data = json.loads(done.stdout)
        jsonschema.validate(data, SCHEMA)
        assert (data["rating"] == WORSE) == (done.returncode == 1)
        same = [d for pair in data["pairs"] for d in pair["differences"] if d["rating"] == SAME]
        assert bool(same) == bool(verbose)


def test_cases_are_areas_or_reports() -> None:
    files = [str(EVIDENCE / f"{name}.json") for name in (CONFIRMED, FAILED)]
    found = {case.name: case for case in comparison_cases.suite(report_pairs.read(*files)).cases}
    assert list(found) == list(AREAS)
    assert [name for name, case in found.items() if case.status == "fail"] == ["verdict", "checks"]
    assert found["registers"].more[0].startswith("[   CHANGED    ] registers EFER: was ")
    folders = report_pairs.read(str(MATRIX / "bookworm"), str(MATRIX / "trixie"))
    found = {case.name: case for case in comparison_cases.suite(folders).cases}
    assert (found["epyc"].status, found["no-virt-at-load"].skip) == ("pass", "only-in-new")


def test_ktap_and_junit(tmp_path: Path) -> None:
    """What is worse is not ok; a file that cannot be read is no pass either."""
    pair = [EVIDENCE / f"{name}.json" for name in (CONFIRMED, FAILED)]
    done = kvmprobe("compare", "--format", "ktap", *pair)
    whole = strict_ktap.parse(done.stdout)
    assert whole.names() == list(AREAS)
    assert [test.ok for test in whole.tests[:2]] == [False, False]
    assert done.returncode == 1
    assert all(
        test.ok for test in strict_ktap.parse(kvmprobe("compare", "--format", "ktap", pair[0], pair[0]).stdout).tests
    )
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "epyc.json").write_text("?" if name == "new" else pair[0].read_text())
    text = kvmprobe("compare", "--format", "junit", *(MATRIX / f"{name}/epyc.json" for name in ("bookworm", "trixie")))
    assert "CHANGED    ] registers EFER: was 0xd01" in text.stdout  # and is no worse
    done = kvmprobe("compare", "--format", "junit", tmp_path / "old", tmp_path / "new")
    assert done.returncode == 65
    assert "<error" in done.stdout


def test_a_pipe_among_the_reports_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        shutil.copy(EVIDENCE / f"{CONFIRMED}.json", tmp_path / name / "epyc.json")
    os.mkfifo(tmp_path / "new/pipe.json")
    os.mkfifo(tmp_path / "new/summary.json")
    os.mkfifo(tmp_path / "summary.json")  # anybody's, if the folders are in /tmp
    done = kvmprobe("compare", tmp_path / "old", tmp_path / "new")
    assert done.returncode == 65
    assert "pipe.json: is not a file" in done.stderr


def test_colour_marks_what_is_worse() -> None:
    found = report_pairs.read(*(str(EVIDENCE / f"{name}.json") for name in (CONFIRMED, FAILED)))
    assert "\033[31m[    WORSE     ]\033[0m verdict" in comparison_text.render(found, colour=True)
    assert "\033" not in comparison_text.render(found)


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    evidence = recorded(CONFIRMED)
    evidence["kernel"].update(release="\x1b]0;owned\x07", lockdown="\x1b[2J\ud800")
    write(tmp_path / "folder\x1b/epyc.json", evidence)
    for old, new in ((EVIDENCE / f"{CONFIRMED}.json", tmp_path / "folder\x1b/epyc.json"),):
        done = kvmprobe("compare", old, new)
        assert done.returncode == 0
        assert done.stdout.replace("\n", "").isprintable()
    shutil.copytree(tmp_path / "folder\x1b", tmp_path / "other")
    (tmp_path / "other/epyc.json").write_text("?")
    done = kvmprobe("compare", tmp_path / "folder\x1b", tmp_path / "other")
    assert (done.stdout + done.stderr).replace("\n", "").isprintable()


MUTATED = {name: recorded(name) for name in (CONFIRMED, "trace/trixie-load")}
PLACES = [(name, path) for name, evidence in MUTATED.items() for path in paths(evidence) if path]


@settings(max_examples=400, deadline=None, suppress_health_check=SUPPRESS)
@given(
    place=st.sampled_from(PLACES),
    value=st.just(...) | st.sampled_from([None, "", "0x0", "0", "0-7", {"error": "EIO"}, -1, True, [], {}]) | ANYTHING,
    other=st.sampled_from(NAMES),
)
def test_mutated_evidence_is_compared_or_refused(place: Any, value: Any, other: str, tmp_path_factory: Any) -> None:
    name, path = place
    evidence = copy.deepcopy(MUTATED[name])
    within = evidence
    for step in path[:-1]:
        within = within[step]
    if value is ...:
        del within[path[-1]]
    else:
        within[path[-1]] = value
    file = str(write(tmp_path_factory.getbasetemp() / "compared.json", evidence))
    against = str(EVIDENCE / f"{other}.json")
    try:
        found = [report_pairs.read(file, against), report_pairs.read(against, file)]
    except DataProblem:
        return
    for comparison in found:
        assert comparison.exit_status() in (0, 1)
        jsonschema.validate(comparison_data(comparison, True), SCHEMA)
        assert comparison_text.render(comparison, 1).replace("\n", "").isprintable()
