#!/usr/bin/python3 -I
# --- Start MAAS 1.0 script metadata ---
# name: kvmprobe
# title: KVM on AMD SVM
# description: Shows from the registers of every CPU whether KVM can use AMD SVM, and why not.
# script_type: commissioning
# hardware_type: cpu
# parallel: disabled
# timeout: 300
# tags: kvm
# destructive: false
# may_reboot: false
# recommission: false
# results:
#  verdict:
#   title: Verdict
#   description: confirmed, usable, failed, inconclusive or not applicable
#  reason:
#   title: Reason
#   description: One name from a closed list, see 'kvmprobe explain'
#  summary:
#   title: Summary
#   description: What the registers show
#  hint:
#   title: What to do
#   description: The remedy for this reason
#  kernel:
#   title: Kernel
#   description: The kernel release that was probed
#  version:
#   title: kvmprobe
#   description: The version of kvmprobe that judged
# --- End MAAS 1.0 script metadata ---
"""kvmprobe as a commissioning script of MAAS: one file, with kvmprobe.pyz at its end. scripts/build puts it there.

MAAS shows standard output, reads the results from $RESULT_PATH, and takes every exit status except 0 as a failure.
The script runs on Python 3.6 or later, so that kvmprobe.pyz can report which Python it needs.
"""

# ruff: noqa: RUF005, UP022, UP031
import base64
import bz2
import json
import os
import subprocess
import sys
import tempfile

# By kvmprobe's verdict: MAAS's status, and the exit status. An inconclusive verdict does not stop the machine; MAAS
# shows it.
STATUS = {
    "confirmed": ("passed", 0),
    "usable": ("passed", 0),
    "not applicable": ("skipped", 0),
    "inconclusive": ("degraded", 0),
    "failed": ("failed", 1),
}
BY_EXIT_STATUS = {3: "inconclusive"}  # kvmprobe could not start
# What else the machine must have, such as "iommu,cpus>=64": `kvmprobe check --require help` lists it. Edit it before
# the upload.
REQUIRE = ""
DEADLINE_S = 240  # less than MAAS's own timeout


def main():
    """Runs kvmprobe, writes the results, and returns the exit status."""
    with tempfile.NamedTemporaryFile(prefix="kvmprobe-", suffix=".pyz") as pyz:
        pyz.write(bz2.decompress(base64.b64decode(PYZ)))
        pyz.flush()
        kvmprobe = [sys.executable, "-I", pyz.name]
        try:
            # Where udev has not loaded kvm_amd, the kernel's answer to modprobe shows why.
            required = ["--require", REQUIRE] if REQUIRE else []
            done = run(kvmprobe + ["check", "--load-kvm", "--json"] + required, b"")
        except subprocess.TimeoutExpired:
            summary = "kvmprobe did not end within %d s" % DEADLINE_S
            return end("timedout", 1, {"summary": summary})
        messages = done.stderr.decode("utf-8", "replace")
        sys.stderr.write(messages)
        try:
            report = json.loads(done.stdout.decode("utf-8"))
        except ValueError:
            verdict = BY_EXIT_STATUS.get(done.returncode, "failed")
            summary = first_line(messages) or "kvmprobe gave no report"
            return end(*STATUS[verdict], {"verdict": verdict, "summary": summary})
        shown = run(kvmprobe + ["judge", "-v", "-"], done.stdout)
    sys.stdout.buffer.write(shown.stdout)
    verdict = report["verdict"]
    name = verdict["status"]
    results = {key: verdict[key] for key in ("reason", "summary", "hint")}
    results.update(verdict=name, kernel=report["evidence"]["kernel"]["release"], version=report["tool"]["version"])
    return end(*STATUS[name], results)


def run(command, given):
    """Runs `command` with the bytes `given` as standard input. Raises TimeoutExpired."""
    return subprocess.run(
        command, input=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=DEADLINE_S, check=False
    )


def end(status, exit_status, results):
    """Writes the results to $RESULT_PATH (JSON is YAML), and returns `exit_status`."""
    path = os.environ.get("RESULT_PATH")
    if path:
        clean = {key: "".join(map(printable, text)) for key, text in results.items()}
        with open(path, "w") as file:
            json.dump({"status": status, "results": clean}, file, indent=1)
            file.write("\n")
    return exit_status


def printable(char):
    """The character, or ? where YAML or MAAS's database refuse it: control characters, and those beyond U+FFFF."""
    return char if char.isprintable() and ord(char) < 0x10000 else "?"


def first_line(text):
    """The first line of `text`; empty if it has none."""
    return (text.strip().splitlines() or [""])[0]


PYZ = """"""

if __name__ == "__main__":
    sys.exit(main())
