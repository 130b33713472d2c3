"""`kvmprobe compare` of two folders: which reports belong together, and what is missing, lost or damaged."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import pytest

from kvmprobe.compare import comparison_text, report_pairs
from tests.helpers.compared_reports import CONFIRMED, KERNELS, MATRIX, write_json
from tests.helpers.recorded_evidence import EVIDENCE, RECORDED, recorded
from tests.helpers.run_kvmprobe import kvmprobe


@pytest.mark.parametrize(("old", "new"), [*itertools.permutations(KERNELS, 2)])
def test_kernels_pairwise(old: str, new: str) -> None:
    """A newer kernel is never worse than an older one. Every scenario of both is compared or named."""
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
    assert done.returncode == 0
    assert "[" not in done.stdout
    assert done.stdout.splitlines()[-1] == f"SAME: reports: {count} same"


def test_folders_of_one_kernel_each_match_by_scenario(tmp_path: Path) -> None:
    for side, kernel in (("old", "bookworm"), ("new", "trixie")):
        for scenario in ("epyc", "hygon"):
            write_json(tmp_path / side / kernel / f"{scenario}.json", recorded(f"matrix/{kernel}/{scenario}"))
    found = report_pairs.read(str(tmp_path / "old"), str(tmp_path / "new"))
    assert [pair.name for pair in found.pairs] == ["epyc", "hygon"]
    assert not found.singles


def test_a_difference_of_many_reports_is_written_once(tmp_path: Path) -> None:
    for side, kernel in (("old", "bookworm"), ("new", "trixie")):
        for scenario in ("epyc", "hygon", "four-cpus", "no-npt"):
            write_json(tmp_path / side / f"{scenario}.json", recorded(f"matrix/{kernel}/{scenario}"))
    text = kvmprobe("compare", tmp_path / "old", tmp_path / "new").stdout
    line = "parameters kvm.enable_virt_at_load: was absent, is Y"
    assert text.count(line) == 1
    assert "in 4 reports (-v names them):\n" in text
    assert (
        kvmprobe("compare", "-v", tmp_path / "old", tmp_path / "new").stdout.count("parameters kvm.enable_virt_at_load")
        == 4
    )


def test_a_damaged_file_hides_neither_the_others_nor_what_is_worse(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        for scenario in ("epyc", "hygon"):
            write_json(folder / f"{scenario}.json", recorded(f"matrix/bookworm/{scenario}"))
    (new / "hygon.json").write_text("{")
    done = kvmprobe("compare", old, new)
    assert done.returncode == 65
    assert f"{new / 'hygon.json'}: not JSON" in done.stderr
    assert f"not compared: {new / 'hygon.json'}: not JSON" in done.stdout
    assert done.stdout.splitlines()[-1] == "SAME: reports: 1 same, 1 not read"
    write_json(new / "epyc.json", recorded("matrix/bookworm/held-first"))
    done = kvmprobe("compare", "-q", old, new)
    assert (done.returncode, done.stdout) == (1, "WORSE: reports: 1 worse, 1 not read\n")


def test_a_report_that_the_lab_lost_is_worse_and_one_that_it_did_not_run_is_named(tmp_path: Path) -> None:
    for side in ("old", "new"):
        for scenario in ("epyc", "hygon", "no-npt"):
            write_json(tmp_path / side / "trixie" / f"{scenario}.json", recorded(f"matrix/trixie/{scenario}"))
    run = {"kernel": "trixie", "scenario": "hygon", "verdict": "lost", "reason": "timed out: 120 s"}
    write_json(tmp_path / "new/summary.json", [run])
    (tmp_path / "new/trixie/no-npt.json").unlink()
    done = kvmprobe("compare", tmp_path / "old", tmp_path / "new")
    assert done.returncode == 0
    assert "[NOT COMPARABLE] trixie/no-npt: only in OLD, not in NEW\n" in done.stdout
    (tmp_path / "new/trixie/hygon.json").unlink()
    for old, new, name in (("old", "new", "trixie/hygon"), ("old/trixie", "new/trixie", "hygon")):
        done = kvmprobe("compare", tmp_path / old, tmp_path / new)
        lost = "the lab of NEW ran it: lost, timed out: 120 s"
        assert f"[    WORSE     ] {name}: only in OLD, not in NEW ({lost})\n" in done.stdout
        assert done.returncode == 1
    assert kvmprobe("compare", tmp_path / "new", tmp_path / "old").returncode == 0
    (tmp_path / "new/trixie/epyc.json").unlink()
    done = kvmprobe("compare", "-q", tmp_path / "old", tmp_path / "new")
    assert (done.returncode, done.stdout) == (1, "WORSE: reports: 1 worse, 2 not comparable\n")


def test_a_pipe_among_the_reports_is_not_read(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        shutil.copy(EVIDENCE / f"{CONFIRMED}.json", tmp_path / name / "epyc.json")
    os.mkfifo(tmp_path / "new/pipe.json")
    os.mkfifo(tmp_path / "new/summary.json")
    os.mkfifo(tmp_path / "summary.json")  # another user's, where the folders are in /tmp
    done = kvmprobe("compare", tmp_path / "old", tmp_path / "new")
    assert done.returncode == 65
    assert "pipe.json: is not a file" in done.stderr
