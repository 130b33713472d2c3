"""The kernel's log lines about KVM and SVM, from /dev/kmsg (Documentation/ABI/testing/dev-kmsg)."""

from __future__ import annotations

import errno
import os
import re

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.sysroot import Sysroot, close_fd
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Log, LogLine


_ABOUT_KVM = re.compile(rb"kvm|svm|\bsev\b|\bccp\b", re.IGNORECASE)
# A host that starts and stops VMs all day logs little about it; this bounds what a faulty one may add to a report.
_LINES = 100
_RECORDS = 1_000_000


def observe(root: Sysroot) -> Log:
    """The last lines about KVM with their time since boot; needs CAP_SYSLOG where kernel.dmesg_restrict is 1."""
    lines: list[LogLine] = []
    try:
        fd = os.open(root.path("/dev/kmsg"), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        return {"error": failure(error)["error"], "lines": []}
    try:
        for _ in range(_RECORDS):
            try:
                record = os.read(fd, 16384)
            except OSError as error:
                if error.errno == errno.EPIPE:  # records were overwritten meanwhile; the next read goes on
                    continue
                if error.errno == errno.EAGAIN:  # the end
                    break
                return {"error": failure(error)["error"], "lines": lines[-_LINES:]}
            if not record:
                break
            if _ABOUT_KVM.search(record):
                line = _parse(record)
                if line:
                    lines.append(line)
    finally:
        close_fd(fd)
    return {"error": None, "lines": lines[-_LINES:]}


def _parse(record: bytes) -> LogLine | None:
    """A record is "priority,sequence,microseconds,flags;text\\n KEY=value…"; only the kernel's own are kept."""
    head, _, body = record.decode("utf-8", "replace").partition(";")
    fields = head.split(",")
    text = body.split("\n", 1)[0]
    if len(fields) < 3 or not fields[0].isdigit() or not fields[2].isdigit():
        return None
    if int(fields[0]) >> 3:  # a facility other than 0: written by user space
        return None
    return {"seconds": int(fields[2]) / 1e6, "text": text}
