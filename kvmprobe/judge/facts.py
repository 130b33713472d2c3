"""Evidence, asked the questions that the checks ask: by CPU, with None for what is not known."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.cpu_lists import parse_cpulist, shown
from kvmprobe.model.registers import (
    CPUID_HYPERVISOR,
    CPUID_SVM,
    CPUID_SVML,
    EFER,
    LEAF_HIGHEST_EXTENDED,
    LEAF_HYPERVISOR,
    LEAF_VENDOR,
    SEV_STATUS,
    CpuidBit,
    has_bit,
    word,
)
from kvmprobe.model.values import as_int, error_of, is_failure

if TYPE_CHECKING:
    from typing import TypeVar

    from kvmprobe.model.evidence import CpuInfo, Evidence, Leaf, Uevent

    _T = TypeVar("_T")


class Facts:
    """What is known about a host. Takes evidence of the shape in evidence.py and leaves it alone."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.modules = evidence["modules"] or {}
        self.has_kvm_amd = None if evidence["modules"] is None else "kvm_amd" in self.modules
        self.create_vm = evidence["ioctls"]["KVM_CREATE_VM"]
        self.vm_created = self.create_vm == 0
        self.watch = evidence.get("watch")
        self.passive = evidence.get("passive", False)
        self._snapshots = {snapshot["phase"]: snapshot["cpus"] for snapshot in evidence["snapshots"]}
        self.cpus, self.gone = self._online()

    def _online(self) -> tuple[list[int], list[int]]:
        """The CPUs that were online all the time, and those that came or went during the probe."""
        seen = [set(map(int, snapshot)) for snapshot in self._snapshots.values()]
        seen.append(set(parse_cpulist(self.evidence["cpus"]["online"])))
        at_end = self.evidence["cpus"]["online_at_end"]
        if at_end:
            seen.append(set(parse_cpulist(at_end)))
        always = set.intersection(*seen)
        return sorted(always), sorted(set.union(*seen) - always)

    # CPUs

    def vendors(self) -> dict[int, str | None]:
        """By raw CPUID leaf 0, else by /proc/cpuinfo."""
        return {cpu: self._vendor(cpu) for cpu in self.cpus}

    def _vendor(self, cpu: int) -> str | None:
        name = self._text(cpu, LEAF_VENDOR, (1, 3, 2))
        info = self._cpuinfo(cpu)
        return name or (info["vendor_id"] if info else None)

    def hypervisor(self) -> str | None:
        """The hypervisor this host runs under ("KVMKVMKVM"); None on bare metal or when unknown."""
        cpu = self.cpus[0] if self.cpus else 0
        return self._text(cpu, LEAF_HYPERVISOR, (1, 2, 3)) if self.cpuid_bit(CPUID_HYPERVISOR).get(cpu) else None

    def _text(self, cpu: int, leaf: int, order: Iterable[int]) -> str | None:
        words = [word(self._leaves(cpu), leaf, register) for register in order]
        known = [value & 0xFFFFFFFF for value in words if value is not None]
        if len(known) < 3:
            return None
        return struct.pack("<3I", *known).decode("ascii", "replace").rstrip("\0 ")

    def _leaves(self, cpu: int) -> dict[str, Leaf]:
        return self.evidence["cpus"]["cpuid"].get(str(cpu), {})

    def highest_extended(self) -> dict[int, int | None]:
        return {cpu: word(self._leaves(cpu), LEAF_HIGHEST_EXTENDED, 0) for cpu in self.cpus}

    def cpuid_bit(self, bit: CpuidBit) -> dict[int, bool | None]:
        """Raw CPUID only: what /proc/cpuinfo shows is no answer, since the kernel may have hidden it."""
        return {cpu: has_bit(self._leaves(cpu), bit) for cpu in self.cpus}

    def svm(self) -> dict[int, bool | None]:
        return self.cpuid_bit(CPUID_SVM)

    def svml(self) -> dict[int, bool | None]:
        return self.cpuid_bit(CPUID_SVML)

    def _cpuinfo(self, cpu: int) -> CpuInfo | None:
        infos = self.evidence["cpus"]["cpuinfo"]
        return None if is_failure(infos) else infos.get(str(cpu))

    def cpuinfos(self) -> list[CpuInfo]:
        """What /proc/cpuinfo says of the CPUs that are in it."""
        return [info for info in map(self._cpuinfo, self.cpus) if info]

    def first_cpuinfo(self) -> CpuInfo | None:
        return next(iter(self.cpuinfos()), None)

    def svm_flag(self) -> dict[int, bool | None]:
        """Whether /proc/cpuinfo shows svm."""
        infos = {cpu: self._cpuinfo(cpu) for cpu in self.cpus}
        return {
            cpu: "svm" in info["flags"] if info and info["flags"] is not None else None for cpu, info in infos.items()
        }

    def is_sev_guest(self) -> bool | None:
        value = as_int(self.evidence["cpus"]["sev_status"])
        return None if value is None else SEV_STATUS.bit(value, "SEV")

    # Registers

    def register(self, phase: str, name: str) -> dict[int, int | None]:
        """A register's value by CPU in one snapshot; None where it could not be read or the CPU was not there."""
        snapshot = self._snapshots.get(phase, {})
        return {cpu: as_int(snapshot.get(str(cpu), {}).get(name)) for cpu in self.cpus}

    def register_errors(self, phase: str, name: str) -> dict[int, str]:
        """Why it could not be read, by CPU."""
        snapshot = self._snapshots.get(phase, {})
        errors = {cpu: error_of(snapshot.get(str(cpu), {}).get(name)) for cpu in self.cpus}
        return {cpu: error for cpu, error in errors.items() if error is not None}

    def shown(self, phase: str, name: str) -> dict[int, str]:
        """A register for people: its value, or why there is none."""
        values, errors = self.register(phase, name), self.register_errors(phase, name)
        return {cpu: errors.get(cpu, shown(value)) for cpu, value in values.items()}

    def svme(self, phase: str) -> dict[int, bool | None]:
        values = self.register(phase, "EFER")
        return {cpu: None if value is None else EFER.bit(value, "SVME") for cpu, value in values.items()}

    def held_before(self) -> list[int]:
        """The CPUs whose EFER.SVME was 1 before the probe, by whomever."""
        return [cpu for cpu, value in self.svme("before").items() if value]

    def has_snapshot(self, phase: str) -> bool:
        return phase in self._snapshots

    # Kernel

    def backends(self) -> list[str]:
        """The modules other than kvm_amd that may answer behind /dev/kvm."""
        holders = self.modules["kvm"]["holders"] if "kvm" in self.modules else []
        names = {name for name in self.modules if name.startswith("kvm_")}.union(holders)
        return sorted(names - {"kvm_amd"})

    def backend_text(self) -> str:
        names = self.backends()
        return f"the backend {', '.join(names)}" if names else "a backend that /sys/module does not name"

    def enables_at_load(self) -> bool | None:
        """kvm.enable_virt_at_load (since 6.12); None where the kernel has no such parameter."""
        module = self.modules.get("kvm")
        value = module["parameters"].get("enable_virt_at_load") if module else None
        return value in ("Y", "1") if isinstance(value, str) else None

    def kvm_holds_svm(self) -> bool:
        """Whether KVM itself is why EFER.SVME was 1 on every CPU before our VM."""
        on_every_cpu = all(self.svme("before").values())
        at_load = self.has_kvm_amd is True and self.enables_at_load() is True
        return on_every_cpu and (at_load or self.other_vms() is not None)

    def works(self) -> bool:
        """The registers show SVME doing its work on every online CPU, whatever a rule says."""
        return self.vm_created and bool(self.cpus) and all(self.svme("created").values())

    def kvm_without_svm(self) -> bool:
        """KVM answers although neither raw CPUID nor /proc/cpuinfo shows SVM: another backend is behind it."""
        shows = [flag if raw is None else raw for raw, flag in zip(self.svm().values(), self.svm_flag().values())]
        known_absent = bool(shows) and all(value is False for value in shows)
        # A built-in kvm_amd is there on every host; one that was loaded answers.
        behind = self.has_kvm_amd is False or (self._kvm_amd_is_built_in() and bool(self.backends()))
        # A vendor module registers /dev/kvm; a passive probe goes by that.
        answers = self.vm_created or (self.passive and self.evidence["device"]["registered"] is True)
        return answers and known_absent and behind

    def _kvm_amd_is_built_in(self) -> bool:
        return "kvm_amd" in self.modules and self.modules["kvm_amd"]["state"] == "builtin"

    # Others

    def create_event(self) -> Uevent | None:
        """The uevent of our own KVM_CREATE_VM. In a container its PID is of another namespace."""
        events = [
            event
            for event in self.evidence["uevents"]["events"]
            if event["event"] == "create" and event["phase"] == "created"
        ]
        own = [event for event in events if event["ours"]]
        if own:
            return own[0]
        return events[0] if self.vm_created and len(events) == 1 else None

    def own_event(self, name: str) -> Uevent | None:
        """The first uevent "create" or "destroy" of our own VM."""
        created = self.create_event()
        if name == "create" or created is None:
            return created
        events = self.evidence["uevents"]["events"]
        return next((event for event in events if event["event"] == name and event["pid"] == created["pid"]), None)

    def witnessed_run(self) -> str | None:
        """The first KVM_RUN that was seen to succeed in a watched command, in words; None without one."""
        for call in self.watch["calls"] if self.watch else ():
            if call["name"] == "KVM_RUN" and isinstance(call["answer"], int):
                thread = f", thread {call['tid']}" if call["tid"] != call["pid"] else ""
                return f"KVM_RUN = {call['answer']} in {call['comm'] or '?'}[{call['pid']}]{thread}"
        return None

    def foreign_events(self) -> list[Uevent]:
        ours = self.create_event()
        pid = ours["pid"] if ours else None
        return [
            event
            for event in self.evidence["uevents"]["events"]
            if not event["ours"] and (pid is None or event["pid"] != pid)
        ]

    def vms_alive_at_create(self) -> int | None:
        """VMs other than ours when ours was created, by the uevent's COUNT."""
        event = self.create_event()
        return event["count"] - 1 if event and event["count"] else None

    def other_vms(self) -> str | None:
        """Evidence that other VMs were alive, in words; None where nothing shows any."""
        count = self.vms_alive_at_create()
        names = ", ".join(f"{user['comm'] or '?'}[{user['pid']}]" for user in self.evidence["vm_users"] or [])
        counted = f"KVM's uevent counted {count} other VM(s)" if count else ""
        held = f"VMs are held by {names}" if names else ""
        return "; ".join(filter(None, (counted, held))) or None

    def users(self) -> str | None:
        """That others had /dev/kvm open, perhaps in another container, in words: with a VM or without, nobody knows."""
        references = self.modules["kvm_amd"]["refcount"] or 0 if "kvm_amd" in self.modules else 0
        return f"kvm_amd had {references} user(s) before the probe" if references > 0 else None
