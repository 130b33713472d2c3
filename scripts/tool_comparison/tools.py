"""The tools that scripts/other-tools compares: how each runs in a guest, and how its output is read.

To read an output means: does it answer "yes, KVM can create VMs by SVM" (True), "no" (False), or neither (None), and by
which part of the output, on one line. The rule of answers.py looks for the cause in this part.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from kvmprobe.model.verdict_status import EXIT_STATUS
from scripts.tool_comparison.sid_tools import LOADER, PROGRAMS

Reading = tuple["bool | None", str]


@dataclass(frozen=True)
class Tool:
    """A tool. `package` is where it is from, `command` is run by sh in the guest, `counts` is for the page: what counts
    as yes and as no. `read` reads the exit status and the output, `telling` matches the lines that it needs.
    """

    name: str
    package: str
    command: str
    counts: str
    read: Callable[[int, str], Reading]
    telling: str = ""

    def kept(self, output: str) -> str:
        """Returns the telling lines of an output; the last lines where there are none, as after a crash."""
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        return "\n".join([line for line in lines if re.search(self.telling, line)] or lines[-_LAST_LINES:])


_LAST_LINES = 3
_USABLE = {EXIT_STATUS["confirmed"]: True, EXIT_STATUS["failed"]: False, EXIT_STATUS["not applicable"]: False}
_KVM_OK = re.compile(r"acceleration can (NOT )?be used")
_VALIDATED = re.compile(r"Checking ((?:for hardware virtualization|if device '?/dev/kvm).*: (?:PASS|FAIL).*)")
_VIRT_TEST = re.compile(r"(PASSED|FAILED|SKIPPED):?.*?((?:Virtuali[sz]ation|Processor does) [^,]*)")
_SNPHOST = re.compile(r"\[ (PASS|FAIL) \] - (?=AMD CPU|KVM supported)(.*)")


def _lines(output: str) -> list[str]:
    """The lines that are not empty, without the quotes and spaces in which versions of a tool differ."""
    lines = (" ".join(line.replace("'", "").split()).replace(" :", ":") for line in output.splitlines())
    return [line for line in lines if line]


def kvm_ok(_: int, output: str) -> Reading:
    """kvm-ok's last line is its answer; the lines before it name the cause."""
    found = _KVM_OK.search(output)
    usable = found[1] is None if found else None
    useless = ("INFO: Your CPU supports", "KVM acceleration can")
    return usable, "; ".join(line for line in _lines(output) if usable is None or not line.startswith(useless))


def virt_host_validate(_: int, output: str) -> Reading:
    """Its answer is the checks of the CPU and of /dev/kvm, without those of cgroups, IOMMU and secure guests."""
    checks = [found[1] for found in map(_VALIDATED.search, _lines(output)) if found]
    if not checks:  # it crashed, or is not installed
        return None, "; ".join(_lines(output)[-1:])
    failed = [check for check in checks if ": PASS" not in check]
    return not failed, "; ".join(failed).replace("if device ", "")


def lscpu(_: int, output: str) -> Reading:
    """It has a line "Virtualization: AMD-V" where the kernel has the CPU's flag svm, and else no such line."""
    if "Architecture:" not in output:
        return None, "; ".join(_lines(output)[-1:])
    found = [line for line in _lines(output) if line.startswith("Virtualization:")]
    return (True, found[0]) if found else (False, "no line Virtualization: the CPU has none")


def fwts(_: int, output: str) -> Reading:
    """Its test "virt" passes, fails (disabled by the BIOS), or is skipped (the CPU has no SVM)."""
    found = next((found for found in map(_VIRT_TEST.search, _lines(output)) if found), None)
    if found is None:
        return None, "; ".join(_lines(output)[-1:])
    return found[1] == "PASSED", f"{found[1]}: {found[2]}"


def snphost(_: int, output: str) -> Reading:
    """Of all its tests, "KVM supported" is about any VM; where that fails, a failed "AMD CPU" names the cause."""
    results = {found[2].partition(":")[0]: found for found in map(_SNPHOST.search, _lines(output)) if found}
    if "KVM supported" not in results:
        return None, "; ".join(_lines(output)[-1:])
    failed = [found[2] for found in results.values() if found[1] == "FAIL"]
    statement = re.sub(r"KVM supported: |Error reading | \(os error \d+\)", "", "; ".join(failed))
    return results["KVM supported"][1] == "PASS", statement


def kvmprobe(status: int, output: str) -> Reading:
    """The exit statuses of confirmed and usable are a yes, those of failed and not applicable are a no.

    The reason kvm-not-permitted is a no, too, although its verdict is inconclusive: this user may not create VMs.
    """
    usable = _USABLE.get(status)
    if output.startswith("INCONCLUSIVE kvm-not-permitted"):
        usable = False
    return usable, " ".join(_lines(output))


TOOLS = (
    Tool(
        "kvm-ok",
        "cpu-checker",
        "kvm-ok",
        'its last line: "KVM acceleration can be used", or "can NOT be used"',
        kvm_ok,
    ),
    Tool(
        "virt-host-validate",
        "libvirt-clients",
        "virt-host-validate qemu",
        "no: one of its checks of the CPU and of /dev/kvm is FAIL",
        virt_host_validate,
        r"Checking .*(hardware virtualization|/dev/kvm)",
    ),
    Tool(
        "lscpu",
        "util-linux",
        "lscpu",
        'yes: the line "Virtualization: AMD-V"; without it: no, the CPU has no SVM',
        lscpu,
        r"^(Architecture|Virtualization)",
    ),
    Tool(
        "snphost",
        "snphost, of Debian sid",
        f"{LOADER} {PROGRAMS}/snphost ok",
        'its test "KVM supported"; the others are about SEV-SNP, and SEV does not exist in an emulated machine',
        snphost,
        _SNPHOST.pattern,
    ),
    Tool(
        "kvmprobe",
        "",
        "",  # each row has its own
        "yes: confirmed or usable; no: failed or not applicable, and the reason kvm-not-permitted",
        kvmprobe,
    ),
    # The last, because it may load the module msr.
    Tool(
        "fwts",
        "fwts, of Debian sid",
        f"{LOADER} {PROGRAMS}/fwts --quiet --results-output=stdout virt",
        'its test "virt": passed or failed; skipped, because the processor does not support it: no',
        fwts,
        rf"{_VIRT_TEST.pattern}|^Must be run|cannot read",
    ),
)

BY_NAME = {tool.name: tool for tool in TOOLS}
