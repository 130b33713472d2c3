"""Runs in a guest: brings it into the state of each case, checks, follows the hint word for word, and checks again.

`python3 -S follow_hints.py CASES.json` reads a list of cases (scripts/cause_guests/cases.py) and prints one line of
JSON for each: the reports before and after, and what was run. Standard library only.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from typing import Any

_RESET = "rm -f /etc/modprobe.d/*.conf; modprobe -qr kvm_amd; rm -rf /dev/kvm"


_NULL = os.open("/dev/null", os.O_RDWR)  # opened before a case has /dev mounted with nodev


def _run(script: str, errors: Any = subprocess.STDOUT) -> list[Any]:
    """Runs lines of sh. Returns the script, its exit status and its output."""
    done = subprocess.run(["sh", "-c", script], stdin=_NULL, stdout=subprocess.PIPE, stderr=errors, text=True)
    return [script, done.returncode, done.stdout]


def _check(command: str) -> Any:
    """Runs kvmprobe. Returns the report, or its output where that is none."""
    output = _run(f"{command} --json", _NULL)[2]
    try:
        return json.loads(output)
    except ValueError:
        return output


def _follow(case: dict[str, Any]) -> dict[str, Any]:
    began = time.monotonic()
    _run(_RESET)
    done = [_run(case["state"])]
    before = _check(case["check"])
    hint = before["verdict"]["hint"] if isinstance(before, dict) else ""
    commands = [command for command in re.findall("`([^`]*)`", hint) if command not in case["not_here"]]
    done += [_run(command) for command in [*commands, *case["action"]]]
    after = _check(case["again"] or case["check"]) if commands or case["action"] or case["again"] else None
    done.append(_run(case["undo"]))
    return {"before": before, "after": after, "done": done, "seconds": round(time.monotonic() - began, 1)}


os.environ.update(USER="tester", SYSTEMD_IGNORE_CHROOT="1")  # for udevadm
with open(sys.argv[1], encoding="utf-8") as cases:
    for each in json.load(cases):
        print(json.dumps(_follow(each)), flush=True)
