#!/usr/bin/python
# GNU General Public License v2.0 or later (GPL-2.0-or-later), and so v3.0 as well: see LICENSE of kvmprobe
"""The module kvmprobe_facts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kvmprobe_facts
short_description: Tells what is seen of AMD SVM on the host without creating a VM
version_added: 0.1.0
description:
  - Runs C(kvmprobe check --passive), which reads CPUID, MSRs and what the kernel says of its modules.
  - It opens no C(/dev/kvm) and creates no VM, so the verdict is never V(confirmed).
  - What stands in the way for certain is named.
  - The kernel modules C(msr) and C(cpuid) are loaded for the moment, unless O(no_load=true) or in check mode.
extends_documentation_fragment:
  - kvmprobe.host.program
attributes:
  check_mode:
    support: full
    description: No module is loaded, so registers may be unknown.
seealso:
  - module: kvmprobe.host.kvmprobe_check
author:
  - The developers of kvmprobe (@kvmprobe)
"""

EXAMPLES = r"""
- name: Look at SVM
  kvmprobe.host.kvmprobe_facts:
  become: true

- name: Name the hosts whose firmware forbids SVM
  ansible.builtin.debug:
    msg: "{{ ansible_facts.kvmprobe.hint }}"
  when: ansible_facts.kvmprobe.svmdis
"""

RETURN = r"""
ansible_facts:
  description: What is seen.
  returned: always
  type: dict
  contains:
    kvmprobe:
      description: Null is unknown. Of a bit it is also null where CPUs differ, which the verdict's reason says.
      type: dict
      returned: always
      contains:
        verdict:
          description: V(failed), V(inconclusive) or V(not applicable).
          type: str
          sample: failed
        reason:
          description: One of a closed list, see C(kvmprobe explain). V(interfered) where only a VM could tell more.
          type: str
          sample: firmware-disabled
        summary:
          description: The same in a sentence.
          type: str
        hint:
          description: What to do.
          type: str
        kernel:
          description: The kernel's release.
          type: str
        cpu:
          description: The model's name.
          type: str
        version:
          description: Of kvmprobe.
          type: str
        taken_at:
          description: When, by the host's clock.
          type: str
        vendor:
          description: Of the CPU.
          type: str
          sample: AuthenticAMD
        microcode:
          description: Its revision.
          type: str
          sample: "0xa0011d5"
        cpus:
          description: Those online, as the kernel lists them.
          type: str
          sample: 0-63
        svm:
          description: Raw CPUID shows SVM.
          type: bool
        svml:
          description: Raw CPUID shows SVML, so that SVMDIS can be undone with a key.
          type: bool
        svmdis:
          description: The firmware forbids SVM (VM_CR.SVMDIS).
          type: bool
        svme:
          description: SVM is switched on at the moment (EFER.SVME).
          type: bool
        kvm_amd:
          description: The state and the parameters of the module, or null where it is not there.
          type: dict
          sample: {state: live, parameters: {npt: "Y"}}
        enable_virt_at_load:
          description: The parameter of the module kvm, or null on kernels that have none.
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
    """A bit of raw CPUID; None where it was not read."""
    leaf = leaves.get(name)
    return _bit(leaf[register], number) if isinstance(leaf, list) else None


def _bit(reading, number):
    """A bit of what was read; None where that is unknown or an error."""
    return bool(int(reading, 16) >> number & 1) if isinstance(reading, str) else None


def _agreed(values):
    """What all CPUs have; None where they differ or one is unknown."""
    different = set(values)
    return different.pop() if len(different) == 1 else None


if __name__ == "__main__":
    main()
