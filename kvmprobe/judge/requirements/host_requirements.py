"""Requirements about the host around KVM: SMT, clock, vulnerabilities, IOMMU, devices of VMMs, cgroups."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import UNKNOWN
from kvmprobe.judge.requirements.device_requirements import DEVICE_REQUIREMENTS
from kvmprobe.judge.requirements.requirement import MET, NOT_MET, Requirement, RequirementAnswer
from kvmprobe.model.cgroup_controllers import OF_LIBVIRT, controllers
from kvmprobe.model.cpu_lists import cpu_names
from kvmprobe.model.values import error_of, is_failure
from kvmprobe.model.vulnerabilities import is_vulnerable

if TYPE_CHECKING:
    from kvmprobe.judge.facts import Facts
    from kvmprobe.model.context_evidence import Context

PROBE_AGAIN = "Run `kvmprobe check` of this version on the host itself, outside of containers."


def not_read(what: str, value: object = None) -> RequirementAnswer:
    """The answer where the evidence does not have something; `value`: what it has in its place."""
    why = error_of(value) or "not in the evidence"
    return RequirementAnswer(UNKNOWN, f"{what} is unknown ({why})", PROBE_AGAIN)


def context_of(facts: Facts) -> Context | None:
    """The evidence about the host around KVM. Older evidence has none."""
    return facts.evidence.get("context")


def _smt(facts: Facts) -> RequirementAnswer:
    """By /sys/devices/system/cpu/smt/active (cpu_smt_control in kernel/cpu.c)."""
    return _smt_answer(facts, "1", "Enable SMT in the firmware's setup, and remove nosmt from the kernel command line.")


def _smt_off(facts: Facts) -> RequirementAnswer:
    return _smt_answer(
        facts, "0", "Disable SMT in the firmware's setup, or add nosmt to the kernel command line and reboot."
    )


def _smt_answer(facts: Facts, wanted: str, hint: str) -> RequirementAnswer:
    context = context_of(facts)
    active = context["smt"]["active"] if context else None
    if context is None or active not in ("0", "1"):
        return not_read("whether SMT is active", active)
    text = f"SMT is {'active' if active == '1' else 'not active'} (control: {_text(context['smt']['control'])})"
    return RequirementAnswer(MET, text) if active == wanted else RequirementAnswer(NOT_MET, text, hint)


def _text(value: object) -> str:
    return value if isinstance(value, str) else error_of(value) or "unknown"


_UNSTABLE = ("Marking TSC unstable", "Marking clocksource 'tsc' as unstable")
_CLOCK_FLAGS = ("constant_tsc", "nonstop_tsc")
_TSC_HINT = (
    "Update the firmware. In a VM, give the vCPUs an invariant TSC (QEMU: invtsc=on). See what the kernel logged: "
    "`journalctl -k -g tsc`."
)


def _tsc_stable(facts: Facts) -> RequirementAnswer:
    """An unstable TSC is not the kernel's clock source, and it is offered no longer (clocksource_mark_unstable() and
    available_clocksource_show() in kernel/time/clocksource.c); a trusted one has constant_tsc and nonstop_tsc."""
    context = context_of(facts)
    available = context["clock"]["available"] if context else None
    if context is None or not isinstance(available, str):
        return not_read("whether the TSC is stable", available)
    current, log = context["clock"]["current"], facts.evidence["log"]
    logged = [line["text"] for line in log["lines"] if any(text in line["text"] for text in _UNSTABLE)]
    if "tsc" not in available.split() or (logged and current != "tsc"):
        text = logged[0] if logged else f"tsc is not among the available clock sources: {available}"
        return RequirementAnswer(NOT_MET, text, _TSC_HINT)
    flags = _clock_flags(facts)
    for flag in _CLOCK_FLAGS:
        if lacking := [cpu for cpu, found in flags.items() if found is not None and flag not in found]:
            return RequirementAnswer(NOT_MET, f"{cpu_names(lacking)}: no {flag}", _TSC_HINT)
    if not flags or None in flags.values():
        return not_read("whether every CPU has constant_tsc and nonstop_tsc")
    if current != "tsc" and log["error"]:
        return not_read("whether the kernel found the TSC unstable", {"error": log["error"]})
    text = f"clock source {_text(current)}; available: {available}; {' and '.join(_CLOCK_FLAGS)}"
    return RequirementAnswer(MET, text)


def _clock_flags(facts: Facts) -> dict[int, list[str] | None]:
    """By CPU the flags of /proc/cpuinfo about the TSC; None where they were not read."""
    infos = facts.evidence["cpus"]["cpuinfo"]
    found = {cpu: None if is_failure(infos) else infos.get(str(cpu)) for cpu in facts.identified}
    return {cpu: info.get("clock_flags") if info else None for cpu, info in found.items()}


def _mitigated(facts: Facts) -> RequirementAnswer:
    """By /sys/devices/system/cpu/vulnerabilities (arch/x86/kernel/cpu/bugs.c)."""
    context = context_of(facts)
    found = context["vulnerabilities"] if context else None
    if not found:
        return not_read("which vulnerabilities of the CPU are mitigated")
    vulnerable = [name for name, value in found.items() if is_vulnerable(value)]
    if vulnerable:
        text = "; ".join(f"{name}: {_text(found[name])}" for name in vulnerable)
        hint = "Install the newest microcode and kernel, and see whether mitigations=off is on the kernel command line."
        return RequirementAnswer(NOT_MET, text, hint)
    unclear = [name for name, value in found.items() if is_vulnerable(value) is None]
    if unclear:
        text = "; ".join(f"{name}: {_text(found[name])}" for name in unclear)
        return RequirementAnswer(UNKNOWN, text, "In a VM, the host below decides: ask its operator.")
    return RequirementAnswer(MET, f"{len(found)} vulnerabilities: the CPU is not affected, or the kernel mitigates")


def _iommu(facts: Facts) -> RequirementAnswer:
    """The kernel uses an IOMMU where it has registered one and has put devices into groups (drivers/iommu/iommu.c);
    the firmware announces it in the ACPI table IVRS (AMD) or DMAR (Intel)."""
    context = context_of(facts)
    if context is None:
        return not_read("whether the kernel uses an IOMMU")
    iommu = context["iommu"]
    devices, groups, tables = iommu["devices"], iommu["groups"], iommu["tables"]
    if devices and groups:
        types = ", ".join(sorted(iommu["types"])) or "unknown"
        return RequirementAnswer(MET, f"{', '.join(devices[:4])}; {groups} groups of type {types}")
    if devices is None or groups is None:
        return not_read("whether the kernel uses an IOMMU")
    if tables:
        hint = "Remove amd_iommu=off and iommu=off from the kernel command line, and reboot: `cat /proc/cmdline`."
        return RequirementAnswer(NOT_MET, f"the firmware has the table {tables[0]}, and the kernel uses no IOMMU", hint)
    missing = "the tables of the firmware are unknown" if tables is None else "the firmware has no table IVRS or DMAR"
    hint = "Enable the IOMMU (AMD-Vi) in the firmware's setup. In a VM, add an IOMMU to it (QEMU: -device amd-iommu)."
    return RequirementAnswer(NOT_MET, f"the kernel uses no IOMMU; {missing}", hint)


def _cgroups(facts: Facts) -> RequirementAnswer:
    """What libvirt uses of the version of cgroups that the host has."""
    context = context_of(facts)
    if context is None:
        return not_read("which cgroup controllers there are")
    version, found = controllers(context["cgroups"]) or ("", [])
    if not found:
        return not_read("which cgroup controllers there are", context["cgroups"]["unified"])
    wanted = OF_LIBVIRT[version]
    missing = [name for name in wanted if name not in found]
    if missing:
        hint = "Remove cgroup_disable= from the kernel command line, and mount the cgroup controllers as systemd does."
        return RequirementAnswer(NOT_MET, f"cgroup {version} without {', '.join(missing)}", hint)
    return RequirementAnswer(MET, f"cgroup {version} with {', '.join(wanted)}")


HOST_REQUIREMENTS = (
    Requirement("smt", "SMT is active: CPUs share cores", _smt, excludes=("smt-off",)),
    Requirement("smt-off", "SMT is not active", _smt_off),
    Requirement("tsc-stable", "the kernel offers the TSC as a clock source, and it never stops or varies", _tsc_stable),
    Requirement("mitigated", "the kernel shows no vulnerability of the CPU without mitigation", _mitigated),
    Requirement("iommu", "the kernel uses an IOMMU, so devices can be assigned to VMs", _iommu),
    *DEVICE_REQUIREMENTS,
    Requirement("cgroups", "the cgroup controllers that libvirt uses are there", _cgroups),
)
