"""How a comparison is written: text, JSON, KTAP and JUnit; colours, wrapped lines, safe text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import pytest

from kvmprobe.compare import AREAS, comparison_cases, comparison_text, report_pairs
from kvmprobe.compare.difference import SAME, WORSE
from tests.helpers import strict_ktap
from tests.helpers.compared_reports import COMPARE_SCHEMA, CONFIRMED, FAILED, MATRIX
from tests.helpers.recorded_evidence import EVIDENCE, recorded
from tests.helpers.run_kvmprobe import kvmprobe

PAIR = [str(EVIDENCE / f"{name}.json") for name in (CONFIRMED, FAILED)]


def test_verbose_shows_also_what_is_the_same() -> None:
    done = kvmprobe("compare", "-v", PAIR[0], PAIR[0])
    assert "[     SAME     ] registers EFER: 0xd01 -> 0x1d01 -> 0xd01\n" in done.stdout
    assert "was " not in done.stdout


def test_quiet_shows_the_last_line_only() -> None:
    whole, last = kvmprobe("compare", *PAIR).stdout, kvmprobe("compare", "-q", *PAIR).stdout
    assert last.startswith("WORSE: values: ")
    assert whole.endswith(f"\n\n{last}")


@pytest.mark.parametrize("width", [40, 80])
def test_lines_are_wrapped_behind_their_mark(width: int) -> None:
    found = report_pairs.read(*PAIR)
    text, whole = comparison_text.render(found, width=width), comparison_text.render(found)
    assert "".join(text.split()) == "".join(whole.split())
    assert len(text.splitlines()) > len(whole.splitlines())
    continued = [line for line in text.splitlines() if line.startswith(" " * 17)]
    assert continued
    assert all(len(line) <= width for line in continued if " " in line.strip())


@pytest.mark.parametrize(
    ("old", "new"), [(CONFIRMED, FAILED), ("trace/trixie-load", "trace/bookworm-create"), ("matrix", "matrix")]
)
def test_json_follows_its_schema(old: str, new: str) -> None:
    jsonschema.Draft202012Validator.check_schema(COMPARE_SCHEMA)
    suffix = "" if old == "matrix" else ".json"
    for verbose in ((), ("-v",)):
        done = kvmprobe("compare", "--json", *verbose, f"{EVIDENCE / old}{suffix}", f"{EVIDENCE / new}{suffix}")
        data = json.loads(done.stdout)
        jsonschema.validate(data, COMPARE_SCHEMA)
        assert (data["rating"] == WORSE) == (done.returncode == 1)
        same = [one for pair in data["pairs"] for one in pair["differences"] if one["rating"] == SAME]
        assert bool(same) == bool(verbose)


def test_cases_are_areas_or_reports() -> None:
    found = {case.name: case for case in comparison_cases.suite(report_pairs.read(*PAIR)).cases}
    assert list(found) == list(AREAS)
    assert [name for name, case in found.items() if case.status == "fail"] == ["verdict", "checks"]
    assert found["registers"].more[0].startswith("[   CHANGED    ] registers EFER: was ")
    folders = report_pairs.read(str(MATRIX / "bookworm"), str(MATRIX / "trixie"))
    found = {case.name: case for case in comparison_cases.suite(folders).cases}
    assert (found["epyc"].status, found["no-virt-at-load"].skip) == ("pass", "only-in-new")


def test_ktap_and_junit(tmp_path: Path) -> None:
    """What is worse is not ok. A file that cannot be read is no pass."""
    done = kvmprobe("compare", "--format", "ktap", *PAIR)
    whole = strict_ktap.parse(done.stdout)
    assert whole.names() == list(AREAS)
    assert [test.ok for test in whole.tests[:2]] == [False, False]
    assert done.returncode == 1
    same = strict_ktap.parse(kvmprobe("compare", "--format", "ktap", PAIR[0], PAIR[0]).stdout)
    assert all(test.ok for test in same.tests)
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "epyc.json").write_text("?" if name == "new" else Path(PAIR[0]).read_text())
    kernels = [MATRIX / f"{name}/epyc.json" for name in ("bookworm", "trixie")]
    text = kvmprobe("compare", "--format", "junit", *kernels).stdout
    assert "CHANGED    ] registers EFER: was 0xd01" in text  # which is not worse
    done = kvmprobe("compare", "--format", "junit", tmp_path / "old", tmp_path / "new")
    assert done.returncode == 65
    assert "<error" in done.stdout


def test_colours_mark_what_is_worse() -> None:
    found = report_pairs.read(*PAIR)
    assert "\033[31m[    WORSE     ]\033[0m verdict" in comparison_text.render(found, colour=True)
    assert "\033" not in comparison_text.render(found)


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    evidence = recorded(CONFIRMED)
    evidence["kernel"].update(release="\x1b]0;owned\x07", lockdown="\x1b[2J\ud800")
    (tmp_path / "folder\x1b").mkdir()
    file = tmp_path / "folder\x1b/epyc.json"
    file.write_text(json.dumps(evidence))
    done = kvmprobe("compare", PAIR[0], file)
    assert done.returncode == 0
    assert done.stdout.replace("\n", "").isprintable()
    shutil.copytree(tmp_path / "folder\x1b", tmp_path / "other")
    (tmp_path / "other/epyc.json").write_text("?")
    done = kvmprobe("compare", tmp_path / "folder\x1b", tmp_path / "other")
    assert (done.stdout + done.stderr).replace("\n", "").isprintable()


def test_strict_counts_what_changed_as_worse() -> None:
    kernels = [MATRIX / f"{name}/epyc.json" for name in ("bookworm", "trixie")]
    usual = kvmprobe("compare", *kernels)
    assert "[   CHANGED    ] registers EFER: was 0xd01" in usual.stdout
    assert usual.returncode == 0
    strict = kvmprobe("compare", "--strict", *kernels)
    assert "[    WORSE     ] registers EFER: was 0xd01" in strict.stdout
    assert "[    BETTER    ] features KVM_CAP_VM_TYPES" in strict.stdout
    assert strict.returncode == 1
    assert kvmprobe("compare", "--strict", kernels[0], kernels[0]).returncode == 0
    folders = kvmprobe("compare", "--strict", *(path.parent for path in kernels))
    assert "epyc: worse" in folders.stdout
    assert folders.returncode == 1
