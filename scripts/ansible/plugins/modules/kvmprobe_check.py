#!/usr/bin/python
# GNU General Public License v2.0 or later (GPL-2.0-or-later), and so v3.0 as well: see LICENSE of kvmprobe
"""The module kvmprobe_check."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kvmprobe_check
short_description: Creates a VM and shows from the registers whether KVM can use AMD SVM on the host
version_added: 0.1.0
description:
  - Runs C(kvmprobe check), which creates and destroys one VM.
  - It reads EFER and VM_CR of every CPU before, during and after.
  - It changes nothing on the host except what O(load_kvm), O(report) and O(fact) request.
  - It loads the kernel modules C(msr) and C(cpuid) temporarily (see O(no_load)).
options:
  fail_on:
    description: The verdicts for which the task fails. With an empty list it fails only if there is no verdict.
    type: list
    elements: str
    choices: [failed, inconclusive, not applicable]
    default: [failed, inconclusive]
  load_kvm:
    description: Load C(kvm_amd) if it is missing, and leave it loaded.
    type: bool
    default: false
  require:
    description:
      - What else the host must have, such as V(iommu) or V(cpus>=64). C(kvmprobe check --require help) lists it.
      - If it lacks something, the verdict is V(failed); if that cannot be found out, V(inconclusive).
      - The answers are in RV(requirements).
    type: list
    elements: str
    default: []
  report:
    description:
      - Store the whole report in this file on the host, for C(kvmprobe judge) and other commands.
      - It contains physical addresses and kernel log lines, so a new file gets mode 0640.
      - An existing file keeps its mode.
      - Every run replaces the report; this does not count as a change. Missing folders are created.
    type: path
  fact:
    description:
      - Write the verdict to this file on the host, with mode 0644, as a static local fact.
      - Ansible's setup returns C(/etc/ansible/facts.d/kvmprobe.fact) as C(ansible_local.kvmprobe).
      - It is valid for the boot C(boot_id), and is written only if it changed. Missing folders are created.
    type: path
  return_report:
    description: Return the whole report too. It has some KiB per CPU.
    type: bool
    default: false
extends_documentation_fragment:
  - kvmprobe.host.program
attributes:
  check_mode:
    support: partial
    description: Whether it runs without changing anything.
    details: It creates no VM and loads no module. It still finds obstacles that are certain, and fails for them.
notes:
  - In check mode the result is skipped if only a VM could show more, and RV(vm_created) is false.
  - It needs root (C(become)) to read everything.
seealso:
  - module: kvmprobe.host.kvmprobe_facts
author:
  - The developers of kvmprobe (@kvmprobe)
"""

EXAMPLES = r"""
- name: Fail if KVM cannot use SVM
  kvmprobe.host.kvmprobe_check:
  become: true

- name: Fail if the host also lacks an IOMMU or has fewer than 64 CPUs
  kvmprobe.host.kvmprobe_check:
    require: [iommu, "cpus>=64"]
  become: true

- name: Never fail, and keep the report on the host
  kvmprobe.host.kvmprobe_check:
    fail_on: []
    report: /var/lib/kvmprobe/report.json
    fact: /etc/ansible/facts.d/kvmprobe.fact
  become: true
  register: kvmprobe_result
"""

RETURN = r"""
verdict:
  description: V(confirmed), V(usable), V(failed), V(inconclusive) or V(not applicable).
  returned: when kvmprobe ran
  type: str
  sample: failed
reason:
  description: One of a closed list, see C(kvmprobe explain).
  returned: when kvmprobe ran
  type: str
  sample: svm-held-by-another-owner
summary:
  description: The verdict in one sentence, with the values that show it.
  returned: when kvmprobe ran
  type: str
  sample: "KVM_CREATE_VM failed: EBUSY; EFER.SVME was 1 on cpu0 before it, and not by KVM"
hint:
  description: What to do.
  returned: when kvmprobe ran
  type: str
  sample: "Find who else uses SVM and unload it"
checks:
  description: Every step of the kernel, in its order, with RV(checks[].id), RV(checks[].status), RV(checks[].message).
  returned: when kvmprobe ran
  type: list
  elements: dict
  contains:
    id:
      description: The name of the check.
      type: str
      sample: create-vm
    status:
      description: V(pass), V(fail), V(warn), V(skip) or V(unknown).
      type: str
      sample: pass
    message:
      description: What was read.
      type: str
      sample: KVM_CREATE_VM succeeded
    hint:
      description: What to do, or null.
      type: str
    blocked_by:
      description: The failed check because of which this one was skipped, or null.
      type: str
requirements:
  description: The answer to each of O(require).
  returned: when kvmprobe ran
  type: list
  elements: dict
  contains:
    name:
      description: What was asked.
      type: str
      sample: cpus>=64
    status:
      description: V(met), V(not-met) or V(unknown).
      type: str
      sample: met
    message:
      description: What was read.
      type: str
      sample: 128 CPUs online
    hint:
      description: What to do, or null.
      type: str
vm_created:
  description: Whether a VM was created.
  returned: always
  type: bool
  sample: true
kernel:
  description: The kernel release.
  returned: when kvmprobe ran
  type: str
  sample: 6.1.0-50-amd64
cpu:
  description: The model name of the first CPU, or null.
  returned: when kvmprobe ran
  type: str
  sample: AMD EPYC 7763 64-Core Processor
version:
  description: The version of kvmprobe.
  returned: when kvmprobe ran
  type: str
  sample: 0.1.0
taken_at:
  description: The time, from the host's clock.
  returned: when kvmprobe ran
  type: str
  sample: "2026-11-22T16:07:51Z"
boot_id:
  description: The boot for which this is valid (C(/proc/sys/kernel/random/boot_id)), or null.
  returned: when kvmprobe ran
  type: str
  sample: 6ab1cc25-4a2c-4f1c-9d43-6e8b3b3c1d8f
report:
  description: The whole report, see C(kvmprobe/model/report.schema.json).
  returned: O(return_report=true)
  type: dict
"""

import json
import os
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kvmprobe.host.plugins.module_utils import program


def main():
    """The module."""
    module = AnsibleModule(
        argument_spec=dict(
            program.ARGUMENTS,
            fail_on={
                "type": "list",
                "elements": "str",
                "choices": ["failed", "inconclusive", "not applicable"],
                "default": ["failed", "inconclusive"],
            },
            load_kvm={"type": "bool", "default": False},
            require={"type": "list", "elements": "str", "default": []},
            report={"type": "path"},
            fact={"type": "path"},
            return_report={"type": "bool", "default": False},
        ),
        supports_check_mode=True,
    )
    if module.check_mode and not os.path.exists(module.params["path"]):
        text = f"no VM was created (check mode), and kvmprobe did not run: {module.params['path']} does not exist yet"
        module.exit_json(changed=False, skipped=True, vm_created=False, msg=text)
    required = [part for demand in module.params["require"] for part in ("--require", demand)]
    if module.check_mode:
        report = program.check(module, "--passive", "--no-load", *required)
    else:
        report = program.check(module, *(["--load-kvm"] if module.params["load_kvm"] else []), *required)
    result = _result(report, module.params["return_report"])
    if not module.check_mode:
        result["changed"] |= _store(module, report, result)
    _end(module, result)


def _result(report, whole):
    evidence = report["evidence"]
    loaded = any(load["module"] == "kvm_amd" and load["status"] == 0 for load in evidence["loads"])
    result = dict(
        program.verdict(report),
        checks=report["checks"],
        requirements=report.get("requirements", []),
        vm_created=evidence["ioctls"]["KVM_CREATE_VM"] == 0,
        boot_id=(_text("/proc/sys/kernel/random/boot_id") or "").strip() or None,
        changed=loaded and "kvm_amd" in (evidence["modules"] or {}),
    )
    if whole:
        result["report"] = report
    return result


def _store(module, report, result):
    """Writes the requested files. Returns whether the fact changed."""
    changed = False
    if module.params["report"]:
        _write(module, "report", report, 0o640)
    if module.params["fact"]:
        names = ("verdict", "reason", "hint", "kernel", "version", "boot_id")  # the same in every run
        fact = dict({name: result[name] for name in names}, report=module.params["report"])
        changed = _write(module, "fact", fact, 0o644)
    return changed


def _write(module, option, content, mode):
    """Replaces the file atomically: readers see the old or the new one. Returns whether it changed."""
    target = module.params[option]
    text = json.dumps(content, indent=1) + "\n"
    try:
        os.umask(0o777 & ~mode & ~0o111)  # a new file has its mode from the start
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        if _text(target) == text:
            return False
        is_new = not os.path.exists(target)
        fd, temporary = tempfile.mkstemp(dir=module.tmpdir)
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        module.fail_json(msg=f"{option}: {target} cannot be written: {error.filename}: {error.strerror}")
    module.atomic_move(temporary, target)
    if is_new:
        module.set_mode_if_different(target, mode, False)
    return True


def _text(path):
    """The text of a file; None if it cannot be read or is not text."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None


def _end(module, result):
    message = "{verdict} {reason}: {summary}".format(**result)
    if not module.check_mode:
        fails = result["verdict"] in module.params["fail_on"]
    else:
        message = "no VM was created (check mode); passive check: " + message
        # Without a VM "inconclusive" is expected, and any other verdict is certain.
        result["skipped"] = result["verdict"] == "inconclusive"
        fails = result["verdict"] in module.params["fail_on"] and not result["skipped"]
    if fails:
        module.fail_json(msg=f"{message}. What to do: {result['hint']}", **result)
    module.exit_json(msg=message, **result)


if __name__ == "__main__":
    main()
