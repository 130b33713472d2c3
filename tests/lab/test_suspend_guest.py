"""`kvmprobe soak --suspend` on real kernels: a guest that suspends in the kernel's test mode while VMs live.

The root is an image and the results stay in memory until the end, because 9p over virtio does not survive suspend.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmprobe.lab import booted_probe, cache, guest_program, userspace
from kvmprobe.lab.boot_result import ANSWERED
from kvmprobe.lab.booted_probe import Guest
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.qemu import Machine

pytestmark = pytest.mark.kernel

_DEADLINE_S = 600.0
_MACHINE = Machine(parameters="suspend.pm_test_delay=1")
_MODE = "cat /sys/power/pm_test"
_SCRIPT = f"""
{{kvmprobe}} soak --json --cycles 2 --vms 2 --suspend; echo "status $?"
{_MODE}
{{kvmprobe}} soak --time 600 --suspend >/dev/null 2>&1 & probe=$!
for try in $(seq 300); do dmesg | grep -c 'PM: suspend entry' | grep -q -x '[3-9]' && break; sleep 0.1; done
kill -KILL $probe; wait $probe
for try in $(seq 300); do {_MODE} | grep -q -F '[none]' && break; sleep 0.1; done
{_MODE}
modprobe -a -q 9pnet_virtio 9p
mkdir /tmp/results && mount -t 9p -o trans=virtio results /tmp/results
{{kvmprobe}} soak --json --cycles 1 --suspend 2>&1; echo "status $?"
umount /tmp/results
"""


@pytest.mark.parametrize(
    ("name", "reason"),
    [("bookworm", "svme-set-by-create-vm"), ("trixie-backports", "svme-set-at-module-load")],
)
def test_each_cpu_has_svme_and_a_page_of_its_own_after_resume(
    name: str, reason: str, real_kernel: Callable[[str], Kernel]
) -> None:
    kernel = real_kernel(name)
    programs = userspace.fetch(kernel.userspace, cache.default(), print)
    kvmprobe = " ".join(guest_program.python(programs.root).command("-m", "kvmprobe"))
    command = ["sh", "-c", _SCRIPT.format(kvmprobe=kvmprobe)]
    guest = Guest(root=programs.root, image=programs.image, suspends=True)
    result = booted_probe.boot(kernel, cache.default(), command, guest, _MACHINE, _DEADLINE_S)
    assert result.outcome == ANSWERED, (result, Path(result.console).read_text(errors="replace"))
    result.console.unlink()
    output = result.stdout.decode()
    first, _, rest = output.partition("status ")
    between, _, last = rest.partition("kvmprobe: ")
    report = json.loads(first)
    soak = report["evidence"]["soak"]
    assert (soak["cycles"], soak["failed"], soak["limits"], soak["steps"]) == (2, 0, [], {"suspend": 2}), result
    assert report["verdict"]["reason"] == reason
    # The status, and the mode after the soak and after another one that was killed.
    assert between.split()[0] == "0"
    assert between.count("[none]") == 2, between
    # Filesystems that would hang keep the host from suspending.
    assert last.splitlines() == [
        "--suspend: /tmp/results is a filesystem of type 9p, which does not survive suspend",
        "  Omit --suspend.",
        "status 3",
    ]
