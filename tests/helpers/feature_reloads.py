"""Runs in a guest of the lab: loads kvm_amd again with each set of parameters, and prints what changed.

It prints a JSON object: `evidence` of the host with kvm_amd as it is, and `runs`, by parameters ("npt=0 avic=1"), each
with the `parameters` of kvm_amd, KVM's answers (`ioctls`) and the `log` lines of this loading. The sets of parameters
are the arguments.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from kvmprobe.collect.host_evidence import CollectOptions, take_evidence
from kvmprobe.host import kernel_log, modules
from kvmprobe.host.kvm import Kvm
from kvmprobe.host.kvm_cpuid import read_leaves
from kvmprobe.host.sysroot import Sysroot


def reloaded(options: str) -> Any:
    """Load kvm_amd again with `options`, and return parameters, answers and log lines."""
    root = Sysroot("/")
    subprocess.run(["modprobe", "-r", "kvm_amd"], check=True)
    with kernel_log.LinesDuring(root) as during:
        subprocess.run(["modprobe", "kvm_amd", *options.split()], check=True)
    present = modules.read_modules(root)
    assert present is not None
    with Kvm("/dev/kvm") as device:
        answers = {
            "KVM_CHECK_EXTENSION": {"KVM_CAP_TSC_CONTROL": device.check_extension("KVM_CAP_TSC_CONTROL")},
            "KVM_GET_SUPPORTED_CPUID": read_leaves(device),
        }
    lines = [line["text"] for line in during.lines.values()]
    return {"parameters": present["kvm_amd"]["parameters"], "ioctls": answers, "log": lines}


def main(runs: list[str]) -> None:
    """Print the JSON object for these sets of parameters."""
    evidence = take_evidence(CollectOptions())
    json.dump({"evidence": evidence, "runs": {options: reloaded(options) for options in runs}}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
