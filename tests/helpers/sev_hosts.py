"""Evidence about SEV: of a host where everything is in order, and of reports of people, which have only some of it."""

from __future__ import annotations

import functools
import json
from typing import Any

from tests.helpers.recorded_evidence import EVIDENCE

Evidence = dict[str, Any]

_GENOA_LEAF = ["0x1f", "0x616f", hex(1006), hex(100)]  # EAX to EDX of 0x8000001F: SME to SNP, 1006 ASIDs, 99 for SEV-ES

_SURROUNDINGS = dict.fromkeys(
    ("container", "hypervisor_type", "xen_features", "vendor", "product", "bootloader_type"), None
)


@functools.lru_cache(maxsize=1)
def _text() -> str:
    return json.dumps(json.loads((EVIDENCE / "matrix/trixie/epyc.json").read_text())["evidence"])


def _base() -> Evidence:
    evidence: Evidence = json.loads(_text())
    return evidence


def log(*texts: str) -> dict[str, Any]:
    """The kernel's log with these lines."""
    return {"error": None, "lines": [{"seconds": float(number), "text": text} for number, text in enumerate(texts)]}


def in_order() -> Evidence:
    """A host with two CPUs on which KVM would run guests of every level, before KVM's own answer is known: the
    conditions alone. The tests break them one by one."""
    evidence = _base()
    for leaves in evidence["cpus"]["cpuid"].values():
        leaves["0x1"] = ["0xa10f11", "0x20800", "0x7efa320b", "0x178bfbff"]  # family 0x19, no hypervisor
        leaves.pop("0x40000000", None)
        leaves["0x80000000"] = ["0x80000028", "0x68747541", "0x444d4163", "0x69746e65"]
        leaves["0x8000000a"] = ["0x1", "0x8000", "0x0", "0x1ebfbcff"]
        leaves["0x8000001f"] = list(_GENOA_LEAF)
    evidence["surroundings"] = dict(_SURROUNDINGS)
    evidence["command_line"] = []
    evidence["command_line_left_out"] = 0
    evidence["log"] = log()
    evidence["ioctls"]["KVM_CHECK_EXTENSION"]["KVM_CAP_VM_TYPES"] = 1
    modules = evidence["modules"]
    modules["kvm"]["parameters"]["mmio_caching"] = "Y"
    modules["kvm_amd"]["parameters"].update(sev="N", sev_es="N", sev_snp="N", npt="Y", nrips="1", lbrv="1")
    modules["ccp"] = {"state": "live", "refcount": 1, "holders": ["kvm_amd"], "parameters": {}}
    registers = {
        "SYSCFG": "0x3fc0000",
        "HWCR": "0x9000011",
        "RMP_BASE": "0x35600000",
        "RMP_END": "0x75bfffff",
    }
    status = {"api": "1.55", "build": 31, "state": 1, "guests": 0}
    evidence["sev"] = {
        "present": "0-1",
        "registers": {cpu: dict(registers) for cpu in evidence["cpus"]["cpuid"]},
        "iommu": {"features": {"ivhd0": "a5bf732fa2295afe:1d"}, "domains": {"DMA-FQ": 12}},
        "device": {"registered": True, "opened": True, "platform": dict(status), "snp_platform": dict(status)},
        "misc_capacity": None,
        "modprobe_lines": [],
    }
    return evidence


def of_report(case: dict[str, Any]) -> Evidence:
    """The evidence that a row of tests/judge/sev_cases.json gives. What it does not have is unknown."""
    evidence = _base()
    cpus = evidence["cpus"]
    family = case.get("family")
    eax = {None: None, 23: "0x830f10", 25: "0xa00f11"}[family]
    leaves: dict[str, Any] = {"0x0": cpus["cpuid"]["0"]["0x0"]}
    if eax:
        leaves["0x1"] = [eax, "0x0", "0x80000000" if case.get("hypervisor") else "0x0", "0x0"]
    if "leaf" in case:
        leaves["0x80000000"] = ["0x80000028", "0x0", "0x0", "0x0"]
        leaves["0x8000001f"] = case["leaf"]
    cpus.update(cpuid={"0": leaves}, cpuinfo={}, online="0", offline=case.get("offline"), online_at_end="0")
    for snapshot in evidence["snapshots"]:
        snapshot["cpus"] = {"0": snapshot["cpus"]["0"]}
    evidence["guest"] = evidence["guest"][:1]
    evidence["kernel"]["release"] = case.get("kernel", "unknown")
    evidence["surroundings"] = dict(_SURROUNDINGS)
    evidence["ioctls"]["KVM_CHECK_EXTENSION"] = {}
    evidence["log"] = log(*case["log"])
    evidence.pop("command_line", None)
    if "command_line" in case:
        evidence["command_line"] = case["command_line"]
    module: dict[str, Any] = {"state": "live", "refcount": 0, "holders": [], "parameters": {}}
    evidence["modules"] = None
    if "parameters" in case:
        evidence["modules"] = {
            "kvm_amd": {**module, "parameters": case["parameters"]},
            "ccp": {**module},
        }
    evidence["sev"] = {
        "present": case.get("present"),
        "registers": {"0": case.get("registers", {})},
        "iommu": {"features": case.get("iommu", {"ivhd0": None}), "domains": {}},
        "device": {
            "registered": True if "platform" in case else case.get("registered"),
            "opened": True if "platform" in case else None,
            "platform": case.get("platform"),
            "snp_platform": None,
        },
        "misc_capacity": None,
        "modprobe_lines": [],
    }
    return evidence
