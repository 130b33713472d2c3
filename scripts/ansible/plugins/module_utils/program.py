# GNU General Public License v2.0 or later (GPL-2.0-or-later), and so v3.0 as well: see LICENSE of kvmprobe
"""Runs kvmprobe on the host of a module, and returns its report or fails with the reason why there is none."""

from __future__ import annotations

import json
import os
import signal
import sys

ARGUMENTS = {
    "path": {"type": "path", "default": "/usr/local/lib/kvmprobe/kvmprobe.pyz"},
    "interpreter": {"type": "path"},
    "no_load": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 120},
}

# The verdicts, with kvmprobe's exit status. A report with another exit status is not valid.
EXIT_STATUS = {"confirmed": 0, "usable": 0, "failed": 1, "inconclusive": 3, "not applicable": 4}

_SCHEMA = "kvmprobe.report/1"
_OLDEST = (3, 9)
_TIMED_OUT = 124  # of timeout(1)
_KILL_AFTER_S = 10


def check(module, *options):
    """The report of `kvmprobe check OPTIONS`. If there is none, ends the module with one line that names the cause."""
    path, seconds = module.params["path"], module.params["timeout"]
    interpreter = module.params["interpreter"] or sys.executable
    if not os.path.isfile(path):
        _fail(module, f"{path} does not exist: copy kvmprobe.pyz there (the role does that), or set 'path'")
    if not os.access(interpreter, os.X_OK):
        _fail(module, f"interpreter: {interpreter} is not an executable program")
    if seconds < 1:
        _fail(module, f"timeout: {seconds} is not a number of seconds (1 or more)")
    timeout = [module.get_bin_path("timeout", required=True), "-k", str(_KILL_AFTER_S), str(seconds)]
    no_load = ["--no-load"] if module.params["no_load"] and "--no-load" not in options else []
    command = [interpreter, "-I", path, "check", "--json", *no_load, *options]
    status, output, messages = module.run_command(timeout + command, cwd="/")
    report = _parsed(output)
    if report is None or status != EXIT_STATUS[report["verdict"]["status"]]:
        why = _why(module, interpreter, status, messages, output)
        _fail(module, why, rc=status, stderr=messages[-4000:], cmd=command)
    return report


def _fail(module, message, **more):
    module.fail_json(msg=message, **more)


def _parsed(output):
    """The report in `output`; None if it is not a valid one."""
    try:
        report = json.loads(output)
        texts = [report["verdict"][name] for name in ("status", "reason", "summary", "hint")]
        texts += [report["tool"]["version"], report["evidence"]["kernel"]["release"], report["evidence"]["taken_at"]]
        whole = report["schema"] == _SCHEMA and texts[0] in EXIT_STATUS and isinstance(report["checks"], list)
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return report if whole and all(isinstance(text, str) for text in texts) else None


def _why(module, interpreter, status, messages, output):
    """Why there is no report, and what to do."""
    last = messages.strip().splitlines()[-1:]
    quoted = ": " + last[0].strip() if last else ""
    if status == _TIMED_OUT:
        return f"kvmprobe did not end within {module.params['timeout']} seconds and was terminated (see 'timeout')"
    if status < 0 or status > 128:
        return f"kvmprobe was killed by {_signal(-status if status < 0 else status - 128)}{quoted}"
    version = _version(module, interpreter)
    if version and version < _OLDEST:
        is_, needed = (".".join(map(str, numbers)) for numbers in (version, _OLDEST))
        return f"{interpreter} is Python {is_}, and kvmprobe needs {needed} or later: set 'interpreter'"
    if output.strip() and status in EXIT_STATUS.values():
        return f"kvmprobe gave no valid report (exit status {status}); its output begins with {output[:60]!r}"
    return f"kvmprobe failed with exit status {status}{quoted}"


def _signal(number):
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _version(module, interpreter):
    """(major, minor) of a Python; None if it does not print them."""
    command = [interpreter, "-I", "-c", "import sys; print('%d %d' % sys.version_info[:2])"]
    try:
        major, minor = module.run_command(command)[1].split()
        return int(major), int(minor)
    except ValueError:
        return None


def verdict(report):
    """What every module returns of a report."""
    evidence = report["evidence"]
    return {
        "verdict": report["verdict"]["status"],
        "reason": report["verdict"]["reason"],
        "summary": report["verdict"]["summary"],
        "hint": report["verdict"]["hint"],
        "version": report["tool"]["version"],
        "kernel": evidence["kernel"]["release"],
        "cpu": cpuinfo(evidence, "model_name"),
        "taken_at": evidence["taken_at"],
    }


def cpuinfo(evidence, name):
    """A field of /proc/cpuinfo for the first CPU; None if it was not read."""
    infos = evidence["cpus"]["cpuinfo"]
    first = next(iter(infos.values()), None)
    return first.get(name) if isinstance(first, dict) else None
