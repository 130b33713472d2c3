"""The Ansible collection: ansible-test sanity, and its modules on this machine. tests/lab runs it on real hosts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kvmprobe import __version__
from kvmprobe.judge.facts import Facts
from kvmprobe.model.judgement import Report
from tests.helpers.ansible import COLLECTION, Ansible
from tests.helpers.counted import NUMBERS
from tests.helpers.recorded_evidence import EVIDENCE

# In place of the script that ansible-test would download to install pip in its virtual environments.
_GET_PIP = "import ensurepip\nensurepip.bootstrap()\n"
_PIP_VERSION = re.compile(r"get_pip_[0-9_]+\.py")


@pytest.fixture
def ansible(tmp_path: Path) -> Ansible:
    made = Ansible(tmp_path / "ansible")
    made.collection.symlink_to(COLLECTION)
    return made


def test_sanity(tmp_path: Path) -> None:
    """All sanity tests of ansible-test, with linters from PyPI in the versions that it pins."""
    ansible = Ansible(tmp_path)
    shutil.copytree(COLLECTION, ansible.collection, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "init", "-q", str(ansible.collection)], check=True)
    subprocess.run(["git", "-C", str(ansible.collection), "add", "-A"], check=True)
    sanity = ("ansible-test", "sanity", "--python", "default", "--color", "no")
    wanted = ansible.run(*sanity, "--test", "ansible-doc")  # its error names the script it would download
    name = _PIP_VERSION.search(wanted.stdout + wanted.stderr)
    if name:
        cache = tmp_path / ".ansible/test/cache"
        cache.mkdir(parents=True, exist_ok=True)
        (cache / name[0]).write_text(_GET_PIP)
    done = ansible.run(*sanity)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    ran = re.findall(r'^Running sanity test "(\S+)"', output, re.MULTILINE)
    skipped = re.findall(r'Skipping sanity test "\S+" (?!on Python \S+ because it could not be found).*', output)
    assert not skipped
    assert {"ansible-doc", "import", "pep8", "pylint", "validate-modules", "yamllint"} <= set(ran)
    NUMBERS.append(f"ansible-test sanity: {len(ran)} tests passed")


def test_it_can_be_installed(tmp_path: Path) -> None:
    """From a checkout, as people do. It has the version of kvmprobe."""
    ansible = Ansible(tmp_path)
    done = ansible.run("ansible-galaxy", "collection", "install", COLLECTION, "-p", tmp_path / "collections")
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = json.loads((ansible.collection / "MANIFEST.json").read_text())["collection_info"]
    assert (manifest["namespace"], manifest["name"], manifest["version"]) == ("kvmprobe", "host", __version__)
    shown = ansible.run("ansible-doc", "-t", "role", "kvmprobe.host.kvmprobe")
    assert "kvmprobe_on_failure" in shown.stdout, shown.stderr


def play(ansible: Ansible, tasks: list[dict[str, Any]], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs tasks on this machine. JSON is YAML."""
    path = ansible.folder / "play.yml"
    path.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    return ansible.run("ansible-playbook", path, *arguments)


def results(ansible: Ansible, module: str, cases: dict[str, Any], *arguments: str) -> dict[str, Any]:
    """The results of a module for each of the arguments in `cases`, by their names."""
    into = ansible.folder / "results.json"
    tasks = [
        {f"kvmprobe.host.{module}": given, "register": f"case_{index}", "ignore_errors": True}
        for index, given in enumerate(cases.values())
    ]
    all_of_them = ", ".join(f"case_{index}" for index in range(len(cases)))
    kept = {"content": f"{{{{ [{all_of_them}] | to_json }}}}", "dest": str(into)}
    done = play(ansible, [*tasks, {"ansible.builtin.copy": kept, "check_mode": False}], *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(zip(cases, json.loads(into.read_text())))


def program(path: Path, *lines: str) -> str:
    path.write_text("\n".join(("import os, sys, time", *lines)))
    return str(path)


def report() -> Report:
    found: Report = json.loads((EVIDENCE / "matrix/bookworm/epyc.json").read_text())
    return found


def test_without_a_verdict_the_error_names_the_cause(ansible: Ansible, tmp_path: Path) -> None:
    """On one line."""
    good = json.dumps(report())
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\ncase $* in *version_info*) echo 3 6;; *) echo SyntaxError >&2; exit 1;; esac\n")
    old.chmod(0o755)
    path = str(tmp_path / "a.pyz")
    Path(path).write_text("")
    cases = {
        "does not exist: copy": {"path": str(tmp_path / "none.pyz")},
        "interpreter: /nowhere/python3 is not": {"path": path, "interpreter": "/nowhere/python3"},
        f"{old} is Python 3.6, and kvmprobe needs 3.9": {"path": path, "interpreter": str(old)},
        "timeout: 0 is not": {"path": path, "timeout": 0},
        "did not end within 1 seconds": {"path": program(tmp_path / "b.py", "time.sleep(60)"), "timeout": 1},
        "killed by SIGKILL": {"path": program(tmp_path / "c.py", "os.kill(os.getpid(), 9)")},
        "exit status 70: kvmprobe: internal": {
            "path": program(tmp_path / "d.py", "sys.exit(print('kvmprobe: internal', file=sys.stderr) or 70)")
        },
        "no valid report (exit status 0); its output begins with 'Hello": {
            "path": program(tmp_path / "e.py", "print('Hello')")
        },
        "no valid report (exit status 1); its output begins with '{": {
            "path": program(tmp_path / "f.py", f"print({good!r})", "sys.exit(1)")  # "confirmed" comes with 0
        },
        "no valid report (exit status 0); its output begins with '[": {
            "path": program(tmp_path / "g.py", "print('[]')")
        },
    }
    for error, result in results(ansible, "kvmprobe_check", cases).items():
        assert result["failed"], error
        assert error in result["msg"], result
        assert "\n" not in result["msg"]
        assert "verdict" not in result


def test_the_user_chooses_what_fails(ansible: Ansible, built: Path, tmp_path: Path) -> None:
    """On this host, for any verdict it has."""
    common = {"path": str(built / "kvmprobe.pyz"), "report": str(tmp_path / "new/folder/report.json")}
    (tmp_path / "kept.json").touch(0o604)
    cases = {
        "none": {**common, "fail_on": [], "fact": str(tmp_path / "facts.d/kvmprobe.fact")},
        "again": {**common, "fail_on": [], "fact": str(tmp_path / "facts.d/kvmprobe.fact"), "return_report": True},
        "all": {
            **common,
            "report": str(tmp_path / "kept.json"),
            "fail_on": ["failed", "inconclusive", "not applicable"],
        },
        "required": {"path": common["path"], "fail_on": [], "require": ["cpus>=1", "memory>=1000T"]},
        "wrong": {**common, "report": str(built / "kvmprobe.pyz/report.json"), "fail_on": []},
    }
    found = results(ansible, "kvmprobe_check", cases)
    verdict = found["none"]["verdict"]
    assert (found["none"]["changed"], found["again"]["changed"]) == (True, False)  # of the fact
    assert found["none"]["vm_created"] == (found["again"]["report"]["evidence"]["ioctls"]["KVM_CREATE_VM"] == 0)
    assert found["all"].get("failed", False) == (verdict not in ("confirmed", "usable"))
    answers = [(row["name"], row["status"]) for row in found["required"]["requirements"]]
    assert answers == [("cpus>=1", "met"), ("memory>=1000T", "not-met")]
    assert verdict not in ("confirmed", "usable") or found["required"]["reason"] == "requirement-not-met"
    assert found["none"]["requirements"] == []
    assert found["wrong"]["failed"]
    assert f"cannot be written: {built / 'kvmprobe.pyz'}: File exists" in found["wrong"]["msg"]
    kept = json.loads((tmp_path / "new/folder/report.json").read_text())
    assert kept["verdict"]["status"] == verdict
    assert (tmp_path / "new/folder/report.json").stat().st_mode & 0o7777 == 0o640
    assert json.loads((tmp_path / "kept.json").read_text())["verdict"]["status"] == verdict
    assert (tmp_path / "kept.json").stat().st_mode & 0o7777 == 0o604
    fact = json.loads((tmp_path / "facts.d/kvmprobe.fact").read_text())
    assert (fact["verdict"], fact["report"]) == (verdict, common["report"])
    assert (tmp_path / "facts.d/kvmprobe.fact").stat().st_mode & 0o7777 == 0o644


def test_check_mode_reports_that_it_created_no_vm(ansible: Ansible, built: Path, tmp_path: Path) -> None:
    files = {"report": str(tmp_path / "r/report.json"), "fact": str(tmp_path / "f/kvmprobe.fact")}
    path = str(built / "kvmprobe.pyz")
    cases = {"there": {"path": path, "fail_on": [], **files}, "not yet": {"path": str(tmp_path / "none"), **files}}
    found = results(ansible, "kvmprobe_check", cases, "--check")
    for result in found.values():
        assert "no VM was created (check mode)" in result["msg"]
        assert (result["changed"], result["vm_created"]) == (False, False)
    assert found["there"]["verdict"] != "confirmed"
    assert found["not yet"]["skipped"]
    assert not (tmp_path / "r").exists()
    assert not (tmp_path / "f").exists()


def test_facts_create_no_vm(ansible: Ansible, built: Path, host_report: Any) -> None:
    found = results(ansible, "kvmprobe_facts", {"facts": {"path": str(built / "kvmprobe.pyz"), "no_load": True}})
    facts = found["facts"]["ansible_facts"]["kvmprobe"]
    assert facts["verdict"] != "confirmed"
    assert facts["cpus"]
    assert {facts["svm"]} == set(Facts(host_report["evidence"]).svm().values())


def test_the_table_is_safe_for_a_terminal(ansible: Ansible, tmp_path: Path) -> None:
    """The texts come from the host."""
    evil = report()
    evil["verdict"]["summary"] = "\x1b[31mred\nsecond line {{ lookup('pipe', 'echo run') }}"
    lines = f"print({json.dumps(evil)!r})"
    tasks: list[dict[str, Any]] = [
        {"kvmprobe.host.kvmprobe_check": {"path": program(tmp_path / "evil.py", lines)}, "register": "kvmprobe_result"},
        {"kvmprobe.host.kvmprobe_table": {}},
    ]
    done = play(ansible, tasks)
    assert done.returncode == 0, done.stdout
    line = next(line for line in done.stdout.splitlines() if line.startswith("localhost  "))
    assert line.endswith("\\x1b[31mred second line {{ lookup('pipe', 'echo run') }}")
    assert "\x1b" not in done.stdout


def test_the_table_is_printed_if_no_host_can_be_reached(ansible: Ansible) -> None:
    inventory = ansible.folder / "inventory"
    hosts = {f"down{n}": {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_user": "root"} for n in (1, 2)}
    inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
    env = {"ANSIBLE_SSH_ARGS": "-F /dev/null"}
    done = ansible.run("ansible-playbook", "kvmprobe.host.check", "-i", inventory, env=env)
    assert done.returncode == 2, done.stdout
    assert "2 hosts: 2 unreachable" in done.stdout


_FAILED = {"verdict": "failed", "reason": "a", "summary": "b"}
_CONFIRMED = {"verdict": "confirmed", "reason": "a", "summary": "b"}
_GONE = {"unreachable": True, "msg": "gone"}

# Host, the variables that a run registered, verdict and summary in the table.
ROWS: tuple[tuple[str, dict[str, Any], str, str], ...] = (
    ("nothing", {}, "error", "it was not checked"),
    ("stopped", {"kvmprobe_error": "no space left"}, "error", "no space left"),
    ("never", {"kvmprobe_reached": _GONE}, "unreachable", "gone"),
    ("meanwhile", {"kvmprobe_result": _GONE, "kvmprobe_error": "no verdict"}, "unreachable", "gone"),
    ("skipped", {"kvmprobe_result": {"skipped": True, "msg": "not there yet"}}, "not run", "not there yet"),
    ("ignored", {"kvmprobe_result": _FAILED}, "failed", "b"),
    ("failed", {"kvmprobe_result": _FAILED, "kvmprobe_error": "a: b. What to do: c"}, "failed", "b"),
    ("afterwards", {"kvmprobe_result": _CONFIRMED, "kvmprobe_fetched": _GONE}, "confirmed", "gone"),
)


def test_the_rows_of_the_table(ansible: Ansible) -> None:
    """The first cause of a failure is shown, not its consequences."""
    inventory, path = ansible.folder / "inventory", ansible.folder / "table.yml"
    inventory.write_text(json.dumps({"all": {"hosts": {name: left for name, left, *_ in ROWS}}}))
    tasks: list[dict[str, Any]] = [{"kvmprobe.host.kvmprobe_table": {}}]
    path.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    done = ansible.run("ansible-playbook", "-i", inventory, path)
    lines = done.stdout.partition("\nHOST ")[2].splitlines()[1 : len(ROWS) + 1]
    cells = [re.split(r"\s{2,}", line) for line in lines]
    assert [(row[0], row[1], row[-1]) for row in cells] == [(name, *shown) for name, _, *shown in ROWS], done
    assert done.stdout.count("\nHOST ") == 1
