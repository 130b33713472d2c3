#!/usr/bin/python
# GNU General Public License v2.0 or later (GPL-2.0-or-later), and so v3.0 as well: see LICENSE of kvmprobe
"""The module kvmprobe_facts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kvmprobe_facts
short_description: Returns what CPUID, MSRs and modules show about AMD SVM, without creating a VM
version_added: 0.1.0
description:
  - Runs C(kvmprobe check --passive), which reads CPUID, MSRs and the state of the kernel modules.
  - It does not open C(/dev/kvm) and creates no VM, so the verdict is never V(confirmed).
  - It reports obstacles that are certain.
  - It loads the kernel modules C(msr) and C(cpuid) temporarily, unless O(no_load=true) or in check mode.
extends_documentation_fragment:
  - kvmprobe.host.program
attributes:
  check_mode:
    support: full
    description: It loads no module, so registers may be unknown.
seealso:
  - module: kvmprobe.host.kvmprobe_check
author:
  - The developers of kvmprobe (@kvmprobe)
"""

EXAMPLES = r"""
- name: Read the state of SVM
  kvmprobe.host.kvmprobe_facts:
  become: true

- name: Show what to do on hosts whose firmware disables SVM
  ansible.builtin.debug:
    msg: "{{ ansible_facts.kvmprobe.hint }}"
  when: ansible_facts.kvmprobe.svmdis
"""

RETURN = r"""
ansible_facts:
  description: What was read.
  returned: always
  type: dict
  contains:
    kvmprobe:
      description: Null means unknown. A bit is also null if the CPUs differ; the reason of the verdict then shows that.
      type: dict
      returned: always
      contains:
        verdict:
          description: V(failed), V(inconclusive) or V(not applicable).
          type: str
          sample: failed
        reason:
          description: One of a closed list, see C(kvmprobe explain). V(vm-not-created) if no obstacle was found.
          type: str
          sample: firmware-disabled
        summary:
          description: The verdict in one sentence.
          type: str
        hint:
          description: What to do.
          type: str
        kernel:
          description: The kernel release.
          type: str
        cpu:
          description: The model name of the first CPU.
          type: str
        version:
          description: The version of kvmprobe.
          type: str
        taken_at:
          description: The time, from the host's clock.
          type: str
        vendor:
          description: The vendor of the first CPU.
          type: str
          sample: AuthenticAMD
        microcode:
          description: The microcode revision of the first CPU.
          type: str
          sample: "0xa0011d5"
        cpus:
          description: The online CPUs, in the kernel's notation.
          type: str
          sample: 0-63
        svm:
          description: Whether raw CPUID has the SVM bit.
          type: bool
        svml:
          description: Whether raw CPUID has the SVML bit. Almost every CPU with SVM has it.
          type: bool
        svmdis:
          description: Whether the firmware disabled SVM (VM_CR.SVMDIS).
          type: bool
        svme:
          description: Whether SVM is enabled at this time (EFER.SVME).
          type: bool
        kvm_amd:
          description: State and parameters of the module, or null if it is not loaded.
          type: dict
          sample: {state: live, parameters: {npt: "Y"}}
        enable_virt_at_load:
          description: The parameter of the module kvm, or null if the kernel has none.
          type: str
          sample: "Y"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kvmprobe.host.plugins.module_utils import program


def main():
    """The module."""
    module = AnsibleModule(argument_spec=dict(program.ARGUMENTS), supports_check_mode=True)
    report = program.check(module, "--passive", *(["--no-load"] if module.check_mode else []))
    module.exit_json(changed=False, ansible_facts={"kvmprobe": _facts(report)})


def _facts(report):
    evidence = report["evidence"]
    cpuid = evidence["cpus"]["cpuid"].values()
    registers = evidence["snapshots"][0]["cpus"].values()
    modules = evidence["modules"] or {}
    kvm_amd = modules.get("kvm_amd")
    return dict(
        program.verdict(report),
        vendor=program.cpuinfo(evidence, "vendor_id"),
        microcode=program.cpuinfo(evidence, "microcode"),
        cpus=evidence["cpus"]["online"],
        svm=_agreed(_leaf(leaves, "0x80000001", 2, 2) for leaves in cpuid),
        svml=_agreed(_leaf(leaves, "0x8000000a", 3, 2) for leaves in cpuid),
        svmdis=_agreed(_bit(values["VM_CR"], 4) for values in registers),
        svme=_agreed(_bit(values["EFER"], 12) for values in registers),
        kvm_amd={name: kvm_amd[name] for name in ("state", "parameters")} if kvm_amd else None,
        enable_virt_at_load=modules.get("kvm", {}).get("parameters", {}).get("enable_virt_at_load"),
    )


def _leaf(leaves, name, register, number):
    """A bit of raw CPUID; None if it was not read."""
    leaf = leaves.get(name)
    return _bit(leaf[register], number) if isinstance(leaf, list) else None


def _bit(reading, number):
    """A bit of a register; None if the register is unknown or an error."""
    return bool(int(reading, 16) >> number & 1) if isinstance(reading, str) else None


def _agreed(values):
    """The value of all CPUs; None if they differ or one is unknown."""
    different = set(values)
    return different.pop() if len(different) == 1 else None


if __name__ == "__main__":
    main()
