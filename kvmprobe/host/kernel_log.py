"""The kernel's log lines that bear on SVM, from /dev/kmsg (Documentation/ABI/testing/dev-kmsg) or a stored copy.

Lines are chosen by who printed them and what they state. A name is not enough: bridges (kvmbr0), USB switches ("USB
KVM"), DMAR's and amdgpu's "SVM" (shared virtual memory), kvm-clock and kvm-guest are not about KVM on this host, and
they can be so many that the lines that matter are lost.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections import deque
from collections.abc import Iterator
from types import TracebackType

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.sysroot import Sysroot, close_fd
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Log, LogLine

# Who printed the line: KVM and its vendor modules, and the module loader about them; other users of SVM; and what the
# kernel found of the CPUs, the firmware and the hypervisor outside. These are prefixes: to compile a regular expression
# of all this would cost every probe some time.
_PRINTERS = (
    *("kvm [", "has_svm: ", "svm: ", "SVM: ", "sev: ", "SEV: ", "SEV-ES: ", "SEV-SNP: ", "snp: ", "SEV supported"),
    *("SEV enabled", "SEV disabled", "SEV unusable", "SEV-ES supported", "SEV-ES enabled", "SEV-ES disabled"),
    *(
        "SEV-ES unusable",
        "SEV-ES and SEV-SNP",
        "SEV-SNP enabled",
        "SEV-SNP disabled",
        "SEV-SNP unusable",
        "ccp ",
        "RT requires X86_FEATURE",
    ),
    *("SVM disabled", "Clearing CPUID bits", "Hypervisor detected", "Hyper-V: Isolation Config"),
    *("tsc: Detected", "tsc: Refined", "iommu: Default domain type"),
    *("Kernel is locked down", "vboxdrv", "VBoxDrv", "vmmon", "/dev/vmmon"),
)
_KVM_MODULES = ("kvm", "kvm-pvm", "ccp", "irqbypass")  # besides those whose names begin with kvm_
# What a bridge logs of its ports. One can be called kvm_br0.
_OF_A_BRIDGE = (" port ", " entered ", " left ", " topology ")
# What the line states, whoever printed it: each of these has all of its parts.
_STATEMENTS = (
    ("unchecked MSR access error", " 0xc0000080 "),
    ("unchecked MSR access error", " 0xc0010114 "),
    ("unchecked MSR access error", " 0xc0010117 "),
    ("Memory Encryption Features active",),
    ("Secure Encrypted Virtualization (",),
    ("Secure Memory Encryption (",),
    ("AMD-Vi: ", "SNP"),
    ("Marking TSC unstable",),
    ("Marking clocksource 'tsc' as unstable",),
    ("Lockdown: ", "module"),
    ("Lockdown: ", "MSR"),
    ("Loading of ", "is rejected"),
    ("signature not signed with a trusted key",),
    ("Module kvm", "is blacklisted"),
    ("Module ccp is blacklisted",),
    ("Module irqbypass is blacklisted",),
    ("audit: ", '="/dev/kvm"'),
    ("audit: ", ' name="kvm" '),
    ("failed to validate module [kvm",),
)
# Each line that is chosen has one of these. Most records have none and need no closer look. Where all alternatives are
# plain text, the search skips to their first characters: it takes half the time.
_PERHAPS = re.compile(
    rb"kvm|svm|SVM|SEV|sev:|SNP|snp|ccp|irqbypass|CPUID|0xc0|Hyper|ncrypt|is locked|Lockdown|reject|signature|vbox|VBox"
    rb"|vmmon|RT req|tsc: D|tsc: R|TSC unstable|'tsc' as unstable|iommu: Def"
)


def _is_chosen(text: str) -> bool:
    printer, colon, rest = text.partition(":")
    if colon and (printer in _KVM_MODULES or (printer.startswith("kvm_") and printer.isidentifier())):
        return not rest.startswith(_OF_A_BRIDGE)
    if text.startswith(_PRINTERS):
        return True
    return any(first in text and all(part in text for part in others) for first, *others in _STATEMENTS)


# A host that starts and stops VMs all day logs little about it; this bounds what a faulty one may add to a report. The
# first lines are of the boot, the last ones of now.
_FIRST, _LAST, _AROUND = 40, 60, 40
_RECORD_BYTES = 16384  # more than the longest record
_FILE_BYTES = 64 << 20
_DEADLINE_S = 2.0  # for a log that never ends

# Stored copies, where /dev/kmsg is not a device.
_STORED = ("/dev/kmsg", "/var/log/dmesg")


class LinesDuring:
    """All the kernel's lines from entry to exit, whoever printed them: `lines`, by their numbers in the log.

    For an attempt to load a module, whose refusal the module loader logs in words of its own.
    """

    def __init__(self, root: Sysroot | None) -> None:
        """`root`: None where no attempt is made; then there are no lines."""
        self.lines: dict[int, LogLine] = {}
        self._root = root
        self._fd = -1

    def __enter__(self) -> LinesDuring:
        if self._root and self._root.is_real:
            try:
                self._fd = self._root.open("/dev/kmsg")
                os.lseek(self._fd, 0, os.SEEK_END)
            except OSError:  # read_log() reports it
                pass
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd < 0:
            return
        try:
            for number, line in _records(self._fd):
                if len(self.lines) < _AROUND:
                    self.lines[number] = line
        except OSError:  # as above
            pass
        finally:
            close_fd(self._fd)


def read_log(root: Sysroot, during: LinesDuring | None = None) -> Log:
    """Return the chosen lines with their time since boot, oldest first, and all lines of `during`.

    Of too many, the first and the last are kept. Needs CAP_SYSLOG where kernel.dmesg_restrict is 1.
    """
    kept = _Kept()
    kept.lines.update(during.lines if during else {})
    error = None
    try:
        for number, line in _candidates(root):
            if _is_chosen(line["text"]):
                kept.add(number, line)
    except OSError as problem:
        error = failure(problem)["error"]
    return {"error": error, "lines": kept.all()}


class _Kept:
    """The first and the last lines, and those that are kept whatever comes."""

    def __init__(self) -> None:
        self.lines: dict[int, LogLine] = {}
        self._first: list[tuple[int, LogLine]] = []
        self._last: deque[tuple[int, LogLine]] = deque(maxlen=_LAST)

    def add(self, number: int, line: LogLine) -> None:
        (self._first if len(self._first) < _FIRST else self._last).append((number, line))

    def all(self) -> list[LogLine]:
        merged = {**dict(self._first), **dict(self._last), **self.lines}
        return [merged[number] for number in sorted(merged)]


def _candidates(root: Sysroot) -> Iterator[tuple[int, LogLine]]:
    """The lines of the log that _PERHAPS are to be chosen, with their numbers. Raises OSError."""
    fd = root.open(next(filter(root.exists, _STORED), _STORED[0]))
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISCHR(mode):
            yield from _records(fd, _PERHAPS)
        elif stat.S_ISREG(mode):
            yield from _stored_lines(fd)
        else:
            raise OSError(errno.EINVAL, "neither a device nor a file")
    finally:
        close_fd(fd)


def _records(fd: int, wanted: re.Pattern[bytes] | None = None) -> Iterator[tuple[int, LogLine]]:
    """The records of /dev/kmsg that have `wanted`, up to the newest one or until _DEADLINE_S. Raises OSError."""
    ends = time.monotonic() + _DEADLINE_S
    while time.monotonic() < ends:
        try:
            record = os.read(fd, _RECORD_BYTES)
        except OSError as error:
            if error.errno == errno.EPIPE:  # records were overwritten meanwhile; the next read goes on
                continue
            if error.errno == errno.EAGAIN:  # the newest record was read
                return
            raise
        if not record:
            return
        if wanted and not wanted.search(record):
            continue
        yield from _parse(record.decode("utf-8", "replace"))


def _parse(record: str) -> Iterator[tuple[int, LogLine]]:
    """A record is "prefix,number,microseconds,flags;text\\n KEY=value"; nothing for what is none.

    The prefix is the facility and the level. Only the kernel's own records are kept, those of facility 0: user space
    may write anything.
    """
    head, _, body = record.partition(";")
    fields = head.split(",")
    if len(fields) < 3 or not all(field.isascii() and field.isdigit() and len(field) < 20 for field in fields[:3]):
        return
    if int(fields[0]) >> 3 == 0:
        yield int(fields[1]), {"seconds": int(fields[2]) / 1e6, "text": body.partition("\n")[0]}


def _stored_lines(fd: int) -> Iterator[tuple[int, LogLine]]:
    """The lines of a stored copy: of /dev/kmsg, of dmesg, or of journalctl. A line without a time since boot has that
    of the line before. Raises OSError."""
    kmsg = re.compile(r"\d+,\d+,\d+,[^;]*;")
    dmesg = re.compile(r"(?:<\d+>)?\[ *(?P<seconds>\d{1,12}\.\d{1,9})\](?:\[[^\]]*\])? ?(?P<text>.*)")
    other_time = re.compile(r"\[[^\]]*\] |\S.{14,40}? kernel: (?:\[ *\d+\.\d+\] )?")
    ends = time.monotonic() + _DEADLINE_S
    seconds, size = 0.0, 0
    with open(fd, "rb", closefd=False) as file:
        for number, raw in enumerate(iter(lambda: file.readline(_RECORD_BYTES), b"")):
            size += len(raw)
            if size > _FILE_BYTES or (number % 64 == 0 and time.monotonic() > ends):
                return
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            is_wanted = _PERHAPS.search(raw) is not None
            if kmsg.match(line):
                if is_wanted:
                    yield from ((number, own) for _, own in _parse(line))
                continue
            found = dmesg.match(line)
            if found:
                seconds = float(found["seconds"])
            before = other_time.match(line)
            text = found["text"] if found else line[before.end() :] if before else line
            if is_wanted:
                yield number, {"seconds": seconds, "text": text}
