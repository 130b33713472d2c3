"""Hundreds of uevents of other devices between two reads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvmprobe.host import kvm
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.host.udev import Udev

pytestmark = pytest.mark.usefixtures("kvm_device")

_OTHER_DEVICE = Path("/sys/devices/virtual/mem/null/uevent")
_STORM = 2000


def test_no_event_of_our_own_vm_is_lost_in_a_storm() -> None:
    """The kernel sends a uevent of a device when "change" is written to its file uevent, as for a coldplug."""
    if os.geteuid() != 0 or not os.access(_OTHER_DEVICE, os.W_OK):
        pytest.skip(f"{_OTHER_DEVICE} cannot be written here")
    udev = Udev(Sysroot("/"))
    udev.start_monitor()
    if udev.error:
        pytest.skip(udev.error)
    with kvm.Kvm("/dev/kvm") as device, device.create_vm():
        for _ in range(_STORM):
            _OTHER_DEVICE.write_text("change")
        udev.collect_uevents(Sysroot("/"), "created")
    udev.collect_uevents(Sysroot("/"), "closed")
    found = udev.evidence()
    assert found["error"] is None
    assert [(event["event"], event["phase"]) for event in found["events"] if event["ours"]] == [
        ("create", "created"),
        ("destroy", "closed"),
    ]
