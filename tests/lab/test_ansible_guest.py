"""The playbook kvmprobe.host.check over ssh: four guests at once, one host that is down, one that hangs."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.lab.scenarios import BY_NAME
from kvmprobe.model.errors import Problem
from tests.helpers import lab_fleet, real_kernels
from tests.helpers.ansible import COLLECTION, Ansible
from tests.helpers.lab_fleet import Fleet, Host

pytestmark = pytest.mark.kernel

GOOD = Host("good", "bookworm", cpus=2)
AT_LOAD = Host("at-load", "trixie")
HELD = Host("held", "bookworm", prepare=BY_NAME["held-first"].prepare)
NO_SVM = Host("no-svm", "bullseye", cpu=BY_NAME["no-svm"].machine.cpu)
HOSTS = (GOOD, AT_LOAD, HELD, NO_SVM)

# How long a connection may take. An emulated guest computes the keys of ssh slowly.
CONNECT_S = 45

RIGHT = {
    "good": ("confirmed", "svme-set-by-create-vm"),
    "at-load": ("confirmed", "svme-set-at-module-load"),
    "held": ("failed", "svm-held-by-another-owner"),
    "no-svm": ("failed", "cpu-lacks-svm"),
    "down": ("unreachable", "-"),
    "hangs": ("unreachable", "-"),
}


CHECK = "kvmprobe.host.check"

# Marks failed hosts, then uses the mark and the local fact.
MARK = """
- hosts: good:held
  gather_facts: false
  strategy: free
  roles:
    - role: kvmprobe.host.kvmprobe
      kvmprobe_on_failure: mark
- hosts: kvmprobe_failed
  gather_facts: false
  tasks:
    - ansible.builtin.setup:
        gather_subset: [local]
    - ansible.builtin.debug:
        msg: "marked {{ ansible_play_hosts_all | join(' ') }}, {{ ansible_local.kvmprobe.reason }}"
"""


class Runs:
    """Runs the playbook on the guests."""

    def __init__(self, guests: Fleet, ansible: Ansible, pyz: Path, folder: Path, sockets: str) -> None:
        self.guests = guests
        self.ansible = ansible
        self.reports = folder / "reports"
        self._pyz = pyz
        self._inventory = folder / "inventory"
        self._env = {
            "ANSIBLE_SSH_ARGS": f"-F /dev/null -o ControlMaster=auto -o ControlPersist=60s -o "
            f"UserKnownHostsFile={guests.known_hosts} -o GlobalKnownHostsFile=/dev/null",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets,  # the path of a socket must be short
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_TIMEOUT": str(CONNECT_S),
            "ANSIBLE_FORKS": "8",
        }

    def inventory(self, ports: dict[str, int]) -> None:
        hosts = {name: {"ansible_host": "127.0.0.1", "ansible_port": port} for name, port in ports.items()}
        common = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.guests.key),
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        self._inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": common}}))  # JSON is YAML

    def playbook(self, name: str | Path, *arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
        # -e kvmprobe_timeout=120 would give text, too.
        variables = json.dumps({"kvmprobe_pyz": str(self._pyz), "kvmprobe_timeout": "120", **given})
        return self.ansible.run(
            "ansible-playbook", name, "-i", self._inventory, "-e", variables, *arguments, env=self._env
        )

    def facts(self, *hosts: Host) -> dict[str, Any]:
        tree = self.ansible.folder / "tree"
        names = ":".join(host.name for host in hosts)
        common = ("-i", self._inventory, "-m", "kvmprobe.host.kvmprobe_facts", "--tree", tree)
        done = self.ansible.run("ansible", names, *common, env=self._env)
        assert done.returncode == 0, done
        return {path.name: json.loads(path.read_text())["ansible_facts"]["kvmprobe"] for path in tree.iterdir()}

    def report(self, host: Host) -> Any:
        """The last report that is stored on the host."""
        return json.loads(self.guests.ssh(host, "cat /var/lib/kvmprobe/report.json").stdout)


def table(done: subprocess.CompletedProcess[str]) -> dict[str, list[str]]:
    """The rows of the last table, by host. Two spaces separate the columns."""
    _, _, rest = done.stdout.rpartition("\nHOST ")
    lines = rest.splitlines()[1:]
    rows = [re.split(r"\s{2,}", line, maxsplit=5) for line in lines[: lines.index("")]]
    return {row[0]: row[1:] for row in rows if len(row) == 6}


def recap(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, int]]:
    lines = done.stdout.partition("PLAY RECAP")[2].splitlines()[1:]
    found = (re.fullmatch(r"(\S+)\s+: (.*)", line) for line in lines)
    return {m[1]: {key: int(n) for key, n in re.findall(r"(\w+)=(\d+)", m[2])} for m in found if m}


@pytest.fixture(scope="module")
def runs(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("fleet")
    ansible = Ansible(folder / "ansible")
    ansible.collection.symlink_to(COLLECTION)
    with tempfile.TemporaryDirectory(prefix="kvmprobe-") as sockets:
        try:
            with lab_fleet.running(folder, HOSTS) as guests:
                yield Runs(guests, ansible, compiled / "kvmprobe.pyz", folder, sockets)
        except Problem as problem:
            real_kernels.unavailable(problem)


@pytest.fixture(scope="module")
def first(runs: Runs) -> subprocess.CompletedProcess[str]:
    with lab_fleet.silent_port() as silent, lab_fleet.reserved_port() as down:
        runs.inventory({**{host.name: host.port for host in HOSTS}, "down": down, "hangs": silent})
        return runs.playbook(CHECK, kvmprobe_fetch_to=str(runs.reports))


def test_the_table_names_each_hosts_right_reason(first: subprocess.CompletedProcess[str]) -> None:
    rows = table(first)
    assert {host: (row[0], row[1]) for host, row in rows.items()} == RIGHT, first.stdout
    assert "EBUSY" in rows["held"][4]
    assert rows["at-load"][2].startswith("6.12.")
    assert "EPYC" in rows["no-svm"][3]
    assert "refused" in rows["down"][4]
    assert "timed out" in rows["hangs"][4]
    assert "6 hosts: 2 confirmed, 2 failed, 2 unreachable" in first.stdout


def test_only_the_failed_hosts_fail(first: subprocess.CompletedProcess[str]) -> None:
    assert first.returncode == 2
    failed = {host for host, counts in recap(first).items() if counts["failed"]}
    assert failed == {"held", "no-svm", "down", "hangs"}


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_report_and_fact_are_stored(first: subprocess.CompletedProcess[str], runs: Runs, host: Host) -> None:
    report = json.loads((runs.reports / f"{host.name}.json").read_text())
    assert report["verdict"]["reason"] == RIGHT[host.name][1]
    assert report == runs.report(host)
    folder, fact = "/usr/local/lib/kvmprobe", "/etc/ansible/facts.d/kvmprobe.fact"
    files = (folder, f"{folder}/kvmprobe.pyz", "/var/lib/kvmprobe/report.json", fact)
    done = runs.guests.ssh(host, f"cat /proc/sys/kernel/random/boot_id {fact}; stat -c '%a %U %n' {' '.join(files)}")
    boot_id, _, rest = done.stdout.partition("\n")
    text, end, modes = rest.partition("\n}\n")
    kept = json.loads(text + end)
    assert (kept["verdict"], kept["reason"], kept["boot_id"]) == (*RIGHT[host.name], boot_id)
    assert modes.splitlines() == [f"{mode} root {file}" for mode, file in zip((755, 755, 640, 644), files)]


def test_check_mode_and_facts_create_no_vm(first: subprocess.CompletedProcess[str], runs: Runs, tmp_path: Path) -> None:
    """The kernel counts all VMs since boot. Check mode and facts run between two real runs, whose VMs have the numbers
    1 and 2.

    The second real run changes nothing. It marks failed hosts and does not fail them.
    """
    mark = tmp_path / "mark.yml"
    mark.write_text(MARK)
    assert created(runs.report(GOOD)) == 1
    checked = runs.playbook(CHECK, "--check", "--limit", "good,held")
    facts = runs.facts(GOOD, HELD)
    marked = runs.playbook(mark)
    assert created(runs.report(GOOD)) == 2

    rows = table(checked)
    assert checked.returncode == 2, checked.stdout  # a failure that needs no VM to show
    assert (rows["good"][0], rows["held"][:2]) == ("inconclusive", list(RIGHT["held"])), checked.stdout
    assert "no VM created" in rows["good"][4]
    assert {host: (n["changed"], n["failed"]) for host, n in recap(checked).items()} == {"good": (0, 0), "held": (0, 1)}

    assert (facts["good"]["reason"], facts["held"]["reason"]) == ("vm-not-created", "svm-held-by-another-owner")
    expected = {"vendor": "AuthenticAMD", "svm": True, "svml": False, "svmdis": False, "svme": False, "cpus": "0-1"}
    assert {name: facts["good"][name] for name in expected} == expected
    assert facts["good"]["kvm_amd"]["parameters"]["npt"] == "Y"
    assert facts["held"]["svme"] is True

    assert marked.returncode == 0, marked.stdout
    assert not any(counts["changed"] for counts in recap(marked).values()), marked.stdout
    assert "marked held, svm-held-by-another-owner" in marked.stdout


def created(report: Any) -> int:
    """How many VMs the kernel had created since boot, from the uevent of kvmprobe's own VM."""
    events = report["evidence"]["uevents"]["events"]
    return int(next(event["created"] for event in events if event["event"] == "create" and event["ours"]))
