"""kvmprobe-maas.py and MAAS's rules: header, results, exit status.

The rules are those of MAAS's ScriptForm (what can be uploaded), ScriptResult.read_results (what can be returned) and
maas_run_remote_scripts.py (how scripts run).
"""

from __future__ import annotations

import ast
import base64
import bz2
import io
import json
import os
import re
import shlex
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kvmprobe import __version__
from kvmprobe.model.reasons import REASONS
from kvmprobe.model.verdict_status import EXIT_STATUS
from tests.helpers.recorded_evidence import RECORDED
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT

TEMPLATE = PROJECT / "scripts/maas/kvmprobe-maas.py"
# By verdict: MAAS's status and the exit status.
MAAS_STATUS = {
    "confirmed": ("passed", 0),
    "usable": ("passed", 0),
    "not applicable": ("skipped", 0),
    "inconclusive": ("degraded", 0),
    "failed": ("failed", 1),
}
RESULTS = {"verdict", "reason", "summary", "hint", "kernel", "version"}
MAX_SIZE = 1024 * 1024  # of each output that MAAS stores

_DELIMITER = re.compile(r"\s*#\s*-+\s*(Start|End) MAAS (\d+\.\d+) script metadata\s+-+", re.IGNORECASE)


def metadata(script: str) -> dict[str, Any]:
    """The header, parsed as MAAS does."""
    first, *lines = script.splitlines()
    assert first.startswith("#!/")
    marks = [index for index, line in enumerate(lines) if _DELIMITER.search(line)]
    assert len(marks) == 2
    header = lines[marks[0] + 1 : marks[1]]
    assert all("#" in line for line in header if line.strip())
    parsed = yaml.safe_load("\n".join(line.partition("#")[2] for line in header))
    assert isinstance(parsed, dict)
    return parsed


def result(path: Path) -> dict[str, Any]:
    """The results that the script wrote, checked by MAAS's rules."""
    data = path.read_bytes()
    assert len(data) < MAX_SIZE
    parsed = yaml.safe_load(data)
    assert parsed.keys() == {"status", "results"}
    assert parsed["status"] in ("passed", "failed", "degraded", "timedout", "skipped")
    assert parsed["results"].keys() <= RESULTS
    for value in parsed["results"].values():
        assert isinstance(value, str)
        assert value.isprintable()
        assert json.loads(json.dumps(value)) == value == value.encode("utf-8").decode()
    return dict(parsed)


def run(script: Path, path: Path | None, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs it like MAAS: as a program, with MAAS's variables."""
    if path:
        env["RESULT_PATH"] = str(path)
    done = subprocess.run(
        [script], env=env, cwd="/", capture_output=True, encoding="utf-8", timeout=DEADLINE_S, check=False
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done


def test_the_header(built: Path) -> None:
    script = (built / "kvmprobe-maas.py").read_bytes().decode("ascii")
    assert "\r" not in script
    assert "\0" not in script
    assert max(map(len, script.splitlines())) <= 120
    found = metadata(script)
    assert found == metadata(TEMPLATE.read_text())
    name = found["name"]
    assert shlex.quote(name) == name
    assert not name.isdigit()
    assert name.lower() != "none"
    assert all(0 < len(found[field]) <= 255 for field in ("name", "title"))
    assert isinstance(found["description"], str)
    assert found["script_type"] == "commissioning"
    assert found["hardware_type"] == "cpu"
    assert found["parallel"] == "disabled"  # alone: VMs of another script would interfere
    assert isinstance(found["timeout"], int)  # seconds: YAML reads some forms of 00:05:00 as sexagesimal numbers
    assert isinstance(found["tags"], str)
    assert not any(found[field] for field in ("destructive", "may_reboot", "recommission"))
    for declared in found["results"].values():
        assert declared.keys() == {"title", "description"}
        assert all(isinstance(text, str) for text in declared.values())
    assert found["results"].keys() == RESULTS
    assert not found.keys() & {"packages", "for_hardware", "parameters"}  # for any machine
    assert "DEADLINE_S" in script
    deadline = re.search(r"^DEADLINE_S = (\d+)", script, re.MULTILINE)
    assert deadline
    assert int(deadline[1]) < found["timeout"]


def test_the_pyz_is_inside(built: Path) -> None:
    payload = (built / "kvmprobe-maas.py").read_text().split('PYZ = """')[1].split('"""')[0]
    assert bz2.decompress(base64.b64decode(payload)) == (built / "kvmprobe.pyz").read_bytes()


def test_on_this_host(built: Path, host_report: Any, tmp_path: Path) -> None:
    verdict = host_report["verdict"]
    done = run(built / "kvmprobe-maas.py", tmp_path / "result.yaml")
    found = result(tmp_path / "result.yaml")
    assert found["results"] == {
        "verdict": verdict["status"],
        "kernel": os.uname().release,
        "version": __version__,
        **{name: verdict[name] for name in ("reason", "summary", "hint")},
    }
    assert found["status"] == MAAS_STATUS[verdict["status"]][0]
    assert done.returncode == (1 if verdict["status"] == "failed" else 0)
    assert f"{verdict['status'].upper()} {verdict['reason']}: " in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["result.yaml"]


def test_without_maas(built: Path, kvm_device: str) -> None:
    """Run by hand: without RESULT_PATH."""
    assert run(built / "kvmprobe-maas.py", None).stdout.endswith("\n")


@pytest.fixture
def script_with(tmp_path: Path) -> Callable[..., Path]:
    """A function that returns the script with another program in place of kvmprobe, and a shorter deadline."""

    def make(program: str, deadline: int = 60) -> Path:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as made:
            made.writestr("__main__.py", program)
        payload = base64.b64encode(bz2.compress(archive.getvalue())).decode()
        text = TEMPLATE.read_text().replace('PYZ = """', f'PYZ = """{payload}')
        text = re.sub(r"(?m)^DEADLINE_S = \d+", f"DEADLINE_S = {deadline}", text)
        path = tmp_path / "script"
        path.write_text(text)
        path.chmod(0o755)
        return path

    return make


def test_what_is_required_reaches_kvmprobe(script_with: Callable[..., Path], tmp_path: Path) -> None:
    script = script_with("import sys; sys.exit(' '.join(sys.argv[1:]))")
    for demands, arguments in (("", ""), ("iommu,cpus>=64", " --require iommu,cpus>=64")):
        script.write_text(script.read_text().replace('REQUIRE = ""', f'REQUIRE = "{demands}"'))
        run(script, tmp_path / "result.yaml")
        found = result(tmp_path / "result.yaml")
        assert found["results"]["summary"] == f"check --load-kvm --json{arguments}"


@pytest.mark.parametrize("status", EXIT_STATUS)
def test_each_verdict(status: str, script_with: Callable[..., Path], tmp_path: Path) -> None:
    """With a recorded report; of a verdict that none has, with another's report."""
    reports = [report for path in RECORDED if "verdict" in (report := json.loads(path.read_text()))]
    report = next((report for report in reports if report["verdict"]["status"] == status), reports[0])
    report["verdict"]["status"] = status
    stored = tmp_path / "report.json"
    stored.write_text(json.dumps(report))
    program = f"import sys; print(open({str(stored)!r}).read()) if 'check' in sys.argv else print('the report')"
    done = run(script_with(f"{program}; sys.exit({EXIT_STATUS[status]})"), tmp_path / "result.yaml")
    found = result(tmp_path / "result.yaml")
    assert (found["status"], done.returncode) == MAAS_STATUS[status]
    assert found["results"]["reason"] in REASONS
    assert found["results"]["kernel"] == report["evidence"]["kernel"]["release"]
    assert done.stdout == "the report\n"


@pytest.mark.parametrize(
    ("program", "deadline", "status", "exit_status", "summary"),
    [
        ("import sys; sys.stderr.write('no\\n  hint\\n'); sys.exit(3)", 60, "degraded", 0, "no"),
        ("import sys; sys.stderr.write('a defect\\n'); sys.exit(70)", 60, "failed", 1, "a defect"),
        ("import os; os.kill(os.getpid(), 9)", 60, "failed", 1, "kvmprobe gave no report"),
        ("import time; time.sleep(600)", 1, "timedout", 1, "kvmprobe did not end within 1 s"),
        ("import sys; sys.stderr.write('\\x1b[31m: [x]\\udc80 \\U0001f600'); sys.exit(70)", 60, "failed", 1, None),
    ],
    ids=["could not start", "defect", "killed", "too long", "hostile"],
)
def test_without_a_report(
    program: str,
    deadline: int,
    status: str,
    exit_status: int,
    summary: str | None,
    script_with: Callable[..., Path],
    tmp_path: Path,
) -> None:
    done = run(script_with(program, deadline), tmp_path / "result.yaml")
    found = result(tmp_path / "result.yaml")
    assert (found["status"], done.returncode) == (status, exit_status)
    if summary:
        assert found["results"]["summary"] == summary


def test_older_pythons_can_read_it() -> None:
    """So that they can report that Python is too old. tests/lab runs Python 2.7 itself."""
    for path in (TEMPLATE, PROJECT / "scripts/distribution/pyz_main.py"):
        ast.parse(path.read_text(), feature_version=(3, 6))
