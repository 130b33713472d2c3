"""One change for each condition of SEV that breaks it alone, for the evidence of a host that is in order."""

from __future__ import annotations

from typing import Any, Callable

from tests.helpers.sev_hosts import Evidence, log

Change = Callable[[Evidence], None]


def _without_bit(bit: int) -> Change:
    def change(evidence: Evidence) -> None:
        leaf = evidence["cpus"]["cpuid"]["1"]["0x8000001f"]
        leaf[0] = hex(int(leaf[0], 16) & ~(1 << bit))

    return change


def _clear_bit(name: str, bit: int) -> Change:
    def change(evidence: Evidence) -> None:
        registers = evidence["sev"]["registers"]["1"]
        registers[name] = hex(int(registers[name], 16) & ~(1 << bit))

    return change


def _leaf_of_every_cpu(register: int, value: str) -> Change:
    def change(evidence: Evidence) -> None:
        for leaves in evidence["cpus"]["cpuid"].values():
            leaves["0x8000001f"][register] = value

    return change


def _register(name: str, value: str, cpu: str = "1") -> Change:
    def change(evidence: Evidence) -> None:
        evidence["sev"]["registers"][cpu][name] = value

    return change


def _logged(*texts: str) -> Change:
    def change(evidence: Evidence) -> None:
        before = [line["text"] for line in evidence["log"]["lines"]]
        evidence["log"] = log(*before, *texts)

    return change


def _both(first: Change, second: Change) -> Change:
    def change(evidence: Evidence) -> None:
        first(evidence)
        second(evidence)

    return change


def _command_line(text: str) -> Change:
    def change(evidence: Evidence) -> None:
        evidence["command_line"].append(text)

    return change


def _device(**answers: Any) -> Change:
    def change(evidence: Evidence) -> None:
        evidence["sev"]["device"].update(answers)

    return change


def _parameter(module: str, name: str, value: str | None) -> Change:
    def change(evidence: Evidence) -> None:
        found = evidence["modules"].get(module)
        if found is None:
            return
        found["parameters"].pop(name, None)
        if value is not None:
            found["parameters"][name] = value

    return change


def _without_module(name: str) -> Change:
    def change(evidence: Evidence) -> None:
        evidence["modules"].pop(name, None)

    return change


def _without_ccp(evidence: Evidence) -> None:
    del evidence["modules"]["ccp"]
    _device(registered=False, opened=None, platform=None, snp_platform=None)(evidence)


def _state(name: str, logged: str) -> Change:
    def change(evidence: Evidence) -> None:
        answer = evidence["sev"]["device"][name]
        if answer and "state" in answer:
            answer["state"] = 0
        _logged(logged)(evidence)

    return change


def _in_vm(evidence: Evidence) -> None:
    evidence["surroundings"].update(vendor="QEMU", product="Standard PC")


def _without_iommu(evidence: Evidence) -> None:
    evidence["sev"]["iommu"] = {"features": {}, "domains": {}}


def _iommu_without_snp(evidence: Evidence) -> None:
    if evidence["sev"]["iommu"]["features"]:
        evidence["sev"]["iommu"]["features"]["ivhd1"] = "25bf732fa2295afe:1d"


def _more_present(evidence: Evidence) -> None:
    evidence["sev"]["present"] = "0-2"


def _configured(text: str) -> Change:
    def change(evidence: Evidence) -> None:
        line = {"file": "/etc/modprobe.d/kvm.conf", "number": 3, "text": text}
        evidence["sev"]["modprobe_lines"].append(line)

    return change


# By the name of the cause; the order is that of the kernel.
BROKEN: dict[str, Change] = {
    "sev-not-in-cpu": _without_bit(1),
    "sev-es-not-in-cpu": _without_bit(3),
    "sev-snp-not-in-cpu": _without_bit(4),
    "sev-mem-encrypt-clear": _clear_bit("SYSCFG", 23),
    "sev-smm-not-locked": _clear_bit("HWCR", 0),
    "sev-snp-kernel-lacks": _parameter("kvm_amd", "sev_snp", None),
    "sev-snp-in-vm": _in_vm,
    "sev-snp-off-by-command-line": _command_line("sev=debug,nosnp"),
    "sev-snp-no-rmp": _register("RMP_BASE", "0x1fff"),
    "sev-snp-rmp-invalid": _register("RMP_END", "0x2000"),
    "sev-snp-iommu-off": _without_iommu,
    "sev-snp-iommu-page-table": _command_line("amd_iommu=pgtbl_v2"),
    "sev-snp-iommu-lacks-snp": _iommu_without_snp,
    "sev-snp-rmp-too-small": _logged(
        "SEV-SNP: Memory reserved for the RMP table does not cover full system RAM (expected 0x40804000 got 0x32004000)"
    ),
    "sev-snp-rmp-failed": _logged("AMD-Vi: SNP: RMP initialization failed, SNP cannot be supported."),
    "sev-ccp-not-loaded": _without_ccp,
    "sev-psp-unreachable": _both(
        _logged("ccp 0000:42:00.1: psp: unable to access the device: you might be running a broken BIOS."),
        _device(platform=None, snp_platform=None),
    ),
    "sev-firmware-no-status": _logged("ccp 0000:42:00.1: SEV: failed to get status. Error: 0x8003"),
    "sev-psp-no-device": _device(registered=False, opened=None, platform=None, snp_platform=None),
    "sev-psp-dead": _device(platform={"error": "EBUSY"}, snp_platform=None),
    "sev-snp-cpus-offline": _more_present,
    "sev-snp-firmware-old": _logged("ccp 0000:42:00.1: SEV-SNP support requires firmware version >= 1:51"),
    "sev-snp-not-on-every-cpu": _clear_bit("SYSCFG", 24),
    "sev-snp-init-failed": _state("snp_platform", "ccp 0000:42:00.1: SEV-SNP: failed to INIT rc -5, error 0x3"),
    "sev-init-failed": _state("platform", "ccp 0000:42:00.1: SEV: failed to INIT error 0xe, rc -5"),
    "sev-kvm-amd-not-loaded": _without_module("kvm_amd"),
    "sev-kernel-lacks": _parameter("kvm_amd", "sev", None),
    "sev-parameter-off": _command_line("kvm_amd.sev=0"),
    "sev-npt-off": _parameter("kvm_amd", "npt", "N"),
    "sev-nrips-off": _parameter("kvm_amd", "nrips", "0"),
    "sev-cpu-lacks-assists": lambda evidence: evidence["cpus"]["cpuid"]["1"].update(
        {"0x8000000a": ["0x1", "0x8000", "0x0", "0x1ebfbc7f"]}
    ),
    "sev-no-asids": _leaf_of_every_cpu(2, "0x0"),
    "sev-asids-all-es": _leaf_of_every_cpu(3, "0x3ef"),
    "sev-es-parameter-off": _configured("options kvm-amd nested=1 sev_es=0"),
    "sev-es-mmio-caching-off": _parameter("kvm", "mmio_caching", "N"),
    "sev-es-lbrv-off": _parameter("kvm_amd", "lbrv", "0"),
    "sev-es-no-asids": _leaf_of_every_cpu(3, "0x1"),
    "sev-snp-parameter-off": _command_line("kvm_amd.sev_snp=n"),
}
# What no host can have both: one value decides about both, or the first is of a module that is missing in the second.
EXCLUSIVE = (
    ("sev-snp-kernel-lacks", "sev-kvm-amd-not-loaded"),
    ("sev-snp-kernel-lacks", "sev-kernel-lacks"),
    ("sev-asids-all-es", "sev-es-no-asids"),
)


def set_answer(evidence: Evidence, level: str, offered: bool) -> None:
    """Have kvm_amd's parameter answer for a level, where the module has it."""
    module = evidence["modules"].get("kvm_amd")
    name = level.replace("-", "_")
    if module and name in module["parameters"]:
        module["parameters"][name] = "Y" if offered else "N"
