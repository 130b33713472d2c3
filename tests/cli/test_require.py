"""--require, as people and scripts use it: exit statuses, files, the list, every format, stored reports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.formats import FORMATS
from kvmprobe.judge.requirements.demands import listing
from tests.helpers.context_variants import server
from tests.helpers.recorded_evidence import EVIDENCE
from tests.helpers.run_kvmprobe import kvmprobe

REPORT = EVIDENCE / "matrix/trixie/epyc.json"  # 2 CPUs, without evidence about the host around KVM


@pytest.mark.parametrize(
    ("demands", "status"),
    [
        (["cpus>=2"], 0),
        (["cpus>=2,registers", "kernel>=6.12"], 0),
        (["cpus>=3"], 1),
        (["iommu"], 3),
        (["iommu,cpus>=3"], 1),
        (["none"], 0),
        (["iomu"], 64),
        (["cpus"], 64),
        (["cpus>=2", "cpus<2"], 64),
        (["@/nonexistent"], 65),
        (["@"], 64),
    ],
)
def test_the_exit_status_is_that_of_the_requirements(demands: list[str], status: int) -> None:
    done = kvmprobe("judge", REPORT, "-q", *(part for demand in demands for part in ("--require", demand)))
    assert done.returncode == status, done.stderr
    if status >= 64:
        assert len(done.stderr.splitlines()) == 2
        assert done.stderr.startswith("kvmprobe: --require")


@pytest.mark.parametrize("command", [["--require", "help"], ["judge", "--require", "help"]])
def test_help_lists_every_requirement_in_a_line(command: list[str]) -> None:
    done = kvmprobe(*command)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == [name for name, _ in listing()]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"# all hosts\ncpus >= 2 # at least\n\nregisters\n", 0),
        (b"registers\ncpus>=64\n", 1),
        (b"\xef\xbb\xbfregisters\r\ncpus>=2\r\n", 0),
        (b"registers\ncpu\n", 65),
        (b"# none\n", 65),
        (b"", 65),
        (b"\xff\xfe", 65),
        (b"#" * (2 << 20), 65),
    ],
)
def test_a_file_asks_one_requirement_per_line(tmp_path: Path, content: bytes, status: int) -> None:
    file = tmp_path / "required"
    file.write_bytes(content)
    done = kvmprobe("judge", REPORT, "-q", "--require", f"@{file}")
    assert done.returncode == status, done.stderr
    assert status < 65 or f"--require @{file}: " in done.stderr


def test_a_file_and_names_need_a_require_each_and_a_file_may_have_a_comma_in_its_name(tmp_path: Path) -> None:
    file, with_comma = tmp_path / "required", tmp_path / "required,all"
    for path in (file, with_comma):
        path.write_text("registers\n")
    done = kvmprobe("judge", REPORT, "--require", f"@{file},cpus>=2,smt")
    assert done.returncode == 65
    assert done.stderr.splitlines()[1].strip() == f"Give --require twice: --require @{file} --require 'cpus>=2,smt'."
    assert kvmprobe("judge", REPORT, "-q", "--require", f"@{file}", "--require", "cpus>=2").returncode == 0
    assert kvmprobe("judge", REPORT, "-q", "--require", f"@{with_comma}").returncode == 0


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_shows_each_requirement(tmp_path: Path, name: str) -> None:
    stored = tmp_path / "report.json"
    stored.write_text(json.dumps(server(("context.iommu.groups", 0))))
    demands = "tun,iommu,microcode>=0x08701021"
    done = kvmprobe("judge", stored, "--require", demands, "--format", name, "-v", "--max-age", "99999d")
    assert done.returncode == (2 if name == "nagios" else 1)
    texts = done.stdout.replace("&gt;", ">").replace("\\u003e", ">").replace("\\u003c", "<")
    shown = ("tun", "iommu") if name == "nfd" else demands.split(",")
    assert all(demand in texts for demand in shown), done.stdout
    assert "requirement-not-met" in texts


@pytest.mark.parametrize("name", ["matrix/trixie/intel", "hosts/kvm-pvm-without-svm"])
@pytest.mark.parametrize("form", [name for name in FORMATS if name not in ("text", "nfd")])
def test_every_format_shows_the_answers_of_a_host_that_is_not_applicable(form: str, name: str) -> None:
    stored, demands = EVIDENCE / f"{name}.json", "cpus>=1,cpus>=3000,iommu"
    done = kvmprobe("judge", stored, "--require", demands, "--format", form, "--max-age", "99999d")
    assert done.returncode == (2 if form == "nagios" else 4)
    texts = done.stdout.replace("&gt;", ">").replace("\\u003e", ">").replace("\\u003c", "<")
    assert all(demand in texts for demand in demands.split(",")), done.stdout
    if form in ("ktap", "tap"):
        reason = json.loads(kvmprobe("judge", stored, "--json").stdout)["verdict"]["reason"]
        results = [line for line in done.stdout.splitlines() if re.match("(not )?ok ", line)]
        assert [line.split(" # ")[1] for line in results] == [f"SKIP {reason}"] * 3
        assert not any(line.startswith("not ok") for line in results)
    if form in ("ktap", "tap", "junit"):
        for answer in ("met: ", "not-met: ", "unknown: ", "hint: "):
            assert answer in texts


def test_the_advice_for_nagios_is_that_of_the_requirements_where_svm_needs_none() -> None:
    intel = EVIDENCE / "matrix/trixie/intel.json"
    for demands, advice in (("cpus>=1", "Nothing to do"), ("cpus>=3000,iommu", "For cpus>=3000: ")):
        done = kvmprobe("judge", intel, "--format", "nagios", "--max-age", "99999d", "--require", demands)
        assert f"what to do: {advice}" in done.stdout
        assert advice.startswith("Nothing") or "Nothing to do" not in done.stdout


def test_a_stored_report_is_asked_again_and_can_be_asked_anew(tmp_path: Path) -> None:
    evidence, stored = tmp_path / "evidence.json", tmp_path / "report.json"
    evidence.write_text(json.dumps(server()))
    assert kvmprobe("judge", evidence, "--require", "cpus>=3", "--json", "-o", stored).returncode == 1
    report = json.loads(stored.read_text())
    again = kvmprobe("judge", stored, "--json")
    assert again.returncode == 1
    assert json.loads(again.stdout) == report
    assert kvmprobe("judge", stored, "--require", "cpus>=2,iommu").returncode == 0
    assert kvmprobe("judge", stored, "--require", "none").returncode == 0


@pytest.mark.parametrize("rows", [[{"name": 1}], {"name": "iommu"}, [{}], [{"name": "x" * 300}], [None], "iommu"])
def test_requirements_of_a_damaged_report_are_refused(tmp_path: Path, rows: Any) -> None:
    stored = tmp_path / "report.json"
    stored.write_text(json.dumps({**json.loads(REPORT.read_text()), "requirements": rows}))
    done = kvmprobe("judge", stored)
    assert done.returncode == 65, done.stdout
    assert "requirements is not a list" in done.stderr


def test_a_host_without_svm_is_not_ok_for_nagios_where_it_lacks_what_is_asked() -> None:
    intel = EVIDENCE / "matrix/trixie/intel.json"
    for demand, status in (("cpus>=2", 0), ("cpus>=3", 2), ("iommu", 3), ("iommu,cpus>=3", 2)):
        done = kvmprobe("judge", intel, "--format", "nagios", "--max-age", "99999d", "--require", demand)
        assert done.returncode == status
        assert kvmprobe("judge", intel, "--require", demand).returncode == 4


def test_this_host_is_asked(tmp_path: Path) -> None:
    stored = tmp_path / "report.json"
    demands = "cpus>=1,kernel>=2.6.32,memory>=1M,cgroups,iommu,tun,vhost,tsc-stable,smt,mitigated,hugepages>=0"
    plain = kvmprobe("check", "-q")
    done = kvmprobe("check", "--require", demands, "-q", "--also", f"json:{stored}")
    report = json.loads(stored.read_text())
    rows = {row["name"]: row["status"] for row in report["requirements"]}
    assert list(rows) == demands.split(",")
    assert rows["cpus>=1"] == rows["kernel>=2.6.32"] == rows["memory>=1M"] == "met"
    if plain.returncode == 0:
        assert done.returncode == (1 if "not-met" in rows.values() else 3 if "unknown" in rows.values() else 0)
    again = kvmprobe("judge", stored, "-q")
    assert (again.returncode, again.stdout) == (done.returncode, done.stdout)
