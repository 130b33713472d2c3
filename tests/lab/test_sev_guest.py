"""check --sev in a guest: an emulated IOMMU, parameters that kvm_amd refuses, a /dev/sev that logs what it gets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.lab.kernels import Kernel
from kvmprobe.model.errors import Problem
from tests.helpers import cuse
from tests.helpers.real_kernels import Guest, unavailable
from tests.helpers.run_kvmprobe import PROJECT

pytestmark = pytest.mark.kernel

# /sys/class/misc is what kvmprobe asks for a driver, and a device of CUSE has a class of its own.
_SCRIPT = """
python="${{kvmprobe% -m kvmprobe}}"
cd {project}
insmod {folder}/fuse.ko && insmod {folder}/cuse.ko || exit
$python -S tests/helpers/fake_sev.py /sev.log /slow & fake=$!
mkdir /misc && cp -dR /sys/class/misc/. /misc && touch /misc/sev && mount --bind /misc /sys/class/misc
until [ -c /dev/sev ]; do sleep 0.1; done
$kvmprobe check --require sev,sev-snp --json | tr -d '\\n'; echo
cat /sev.log; echo ==== required
$python -S -c "{ask}"
tail -n 3 /sev.log; echo ==== both
touch /slow
$kvmprobe check --passive --sev --json | tr -d '\\n'; echo
rm /slow
n=0; while ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q ' /dev/sev$' && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
[ $n -lt 100 ] && echo none left
kill $fake; wait $fake 2>/dev/null
umount /sys/class/misc
"""
_ASK = (
    "import json; from kvmprobe.host.sev_device import read_device; from kvmprobe.host.sysroot import Sysroot; "
    "print(json.dumps(read_device(Sysroot(), True)))"
).replace('"', '\\"')
_STATUS = {"api": "1.55", "build": 31, "state": 1, "guests": 2}


def test_only_the_status_commands_are_sent_and_a_dead_psp_ends_in_time(
    guest: Guest, real_kernel: Callable[[str], Kernel], tmp_path: Path
) -> None:
    try:
        for module in cuse.modules(real_kernel("bookworm")):
            shutil.copy(module, tmp_path)
    except Problem as problem:
        unavailable(problem)
    script = _SCRIPT.format(project=PROJECT, folder=tmp_path, ask=_ASK)
    output = guest(
        script,
        prepare=("modprobe kvm_amd sev=1 sev_es=1", "modprobe msr", "modprobe cpuid"),
        devices=("amd-iommu",),
        deadline=300.0,
    )
    print(output)
    lines = output.splitlines()
    reports: list[Any] = [json.loads(line) for line in lines if line.startswith('{ "schema"')]
    required, slow = reports
    # The device is opened read-only, for one command: nothing shows that SNP is initialized.
    assert lines[1 : lines.index("==== required")] == ["open 0", "ioctl 0xc0105300 1"]
    both = lines[lines.index("==== required") + 1 : lines.index("==== both")]
    assert json.loads(both[0])["platform"] == _STATUS
    assert json.loads(both[0])["snp_platform"] == {**_STATUS, "guests": 3}
    assert both[1:] == ["open 0", "ioctl 0xc0105300 1", "ioctl 0xc0105300 9"]
    for report in reports:
        causes = {level["level"]: level["cause"] for level in report["sev"]["levels"]}
        assert causes == dict.fromkeys(("sev", "sev-es", "sev-snp"), "sev-not-in-cpu")
        assert report["evidence"]["sev"]["registers"] == {"0": {}, "1": {}}  # CPUID does not show that they exist
        assert report["evidence"]["modules"]["kvm_amd"]["parameters"]["sev"] == "N"
        assert report["evidence"]["sev"]["iommu"]["features"].keys() == {"ivhd0"}
        assert "bare metal" in report["sev"]["levels"][0]["hint"]
    assert required["evidence"]["sev"]["device"] == {
        "registered": True,
        "opened": True,
        "platform": _STATUS,
        "snp_platform": None,
    }
    assert (required["verdict"]["reason"], len(required["requirements"])) == ("requirement-not-met", 2)
    assert slow["evidence"]["sev"]["device"]["opened"] is True
    assert slow["evidence"]["sev"]["device"]["platform"] == {"error": "ETIMEDOUT"}
    assert "none left" in lines
