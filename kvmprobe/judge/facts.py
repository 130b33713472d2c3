"""What evidence shows: the questions that checks and formats ask, answered by CPU, with None for what is unknown."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.cpu_presence import CpuPresence, by_phase
from kvmprobe.model.cpu_lists import text_of
from kvmprobe.model.own_errors import LIMITS, is_own_error
from kvmprobe.model.printable import process_text
from kvmprobe.model.registers import (
    CPUID_HYPERVISOR,
    CPUID_SVM,
    CPUID_SVML,
    LEAF_HIGHEST_EXTENDED,
    LEAF_HYPERVISOR,
    LEAF_VENDOR,
    SEV_STATUS,
    VM_CR,
    CpuidBit,
    has_bit,
    svme,
    word,
)
from kvmprobe.model.values import NOT_PERMITTED, SNAPSHOT_PHASES, as_int, error_of, is_failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import CpuInfo, Evidence, Leaf, Uevent


class Facts:
    """What evidence (of evidence.py) shows about a host. Changes nothing in it."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.modules = evidence["modules"] or {}
        self.has_kvm_amd = None if evidence["modules"] is None else "kvm_amd" in self.modules
        self.create_vm = evidence["ioctls"]["KVM_CREATE_VM"]
        self.vm_created = self.create_vm == 0
        self.watch = evidence.get("watch")
        self.passive = evidence.get("passive", False)
        self._snapshots = by_phase(evidence["snapshots"])
        presence = CpuPresence(evidence, self._snapshots)
        self.cpus = presence.cpus
        self.came_or_went = presence.came_or_went
        self._there = presence.there
        # Several checks ask for the same: the answers by snapshot and register, and by bit of CPUID.
        self._registers: dict[tuple[str, str], dict[int, int | None]] = {}
        self._bits: dict[CpuidBit, dict[int, bool | None]] = {}
        self.online_is_known = evidence["cpus"]["online"] is not None
        # The CPUs whose identity was read: those that were there at the beginning. One that came later has none.
        known = {*map(str, self._there.get("online", ())), *evidence["cpus"]["cpuid"]}
        known.update(() if is_failure(evidence["cpus"]["cpuinfo"]) else evidence["cpus"]["cpuinfo"])
        self.identified = [cpu for cpu in self.cpus if str(cpu) in known]

    def there(self, phase: str) -> list[int]:
        """The CPUs that were there at a snapshot, read or not; all CPUs where that snapshot was not taken."""
        return self._there.get(phase, self.cpus)

    # CPUs

    def vendors(self) -> dict[int, str | None]:
        """By raw CPUID leaf 0, else by /proc/cpuinfo: "AuthenticAMD"."""
        return {cpu: self._vendor(cpu) for cpu in self.identified}

    def _vendor(self, cpu: int) -> str | None:
        name = self._text(cpu, LEAF_VENDOR, (1, 3, 2))
        info = self._cpuinfo(cpu)
        return name or (info["vendor_id"] if info else None)

    def hypervisor(self) -> str | None:
        """The hypervisor that this host runs under ("KVMKVMKVM"); None on bare metal or where unknown."""
        in_vm = self.cpuid_bit(CPUID_HYPERVISOR)
        return next((self._text(cpu, LEAF_HYPERVISOR, (1, 2, 3)) for cpu, value in in_vm.items() if value), None)

    def _text(self, cpu: int, leaf: int, order: Iterable[int]) -> str | None:
        words = [word(self._leaves(cpu), leaf, register) for register in order]
        known = [value & 0xFFFFFFFF for value in words if value is not None]
        if len(known) < len(words):
            return None
        return struct.pack("<3I", *known).decode("ascii", "replace").rstrip("\0 ")

    def _leaves(self, cpu: int) -> dict[str, Leaf]:
        return self.evidence["cpus"]["cpuid"].get(str(cpu), {})

    def highest_extended(self) -> dict[int, int | None]:
        return {cpu: word(self._leaves(cpu), LEAF_HIGHEST_EXTENDED, 0) for cpu in self.identified}

    def cpuid_bit(self, bit: CpuidBit) -> dict[int, bool | None]:
        """By raw CPUID alone: the kernel may hide a feature from /proc/cpuinfo."""
        if bit not in self._bits:
            self._bits[bit] = {cpu: has_bit(self._leaves(cpu), bit) for cpu in self.identified}
        return self._bits[bit]

    def svm(self) -> dict[int, bool | None]:
        """CPUID 0x80000001 ECX.SVM."""
        return self.cpuid_bit(CPUID_SVM)

    def svml(self) -> dict[int, bool | None]:
        """CPUID 0x8000000A EDX.SVML."""
        return self.cpuid_bit(CPUID_SVML)

    def _cpuinfo(self, cpu: int) -> CpuInfo | None:
        infos = self.evidence["cpus"]["cpuinfo"]
        return None if is_failure(infos) else infos.get(str(cpu))

    def cpuinfos(self) -> list[CpuInfo]:
        """The entries of /proc/cpuinfo, of the CPUs that are in it."""
        return [info for info in map(self._cpuinfo, self.cpus) if info]

    def first_cpuinfo(self) -> CpuInfo | None:
        return next(iter(self.cpuinfos()), None)

    def svm_flag(self) -> dict[int, bool | None]:
        """Whether svm is in the flags of /proc/cpuinfo."""
        infos = {cpu: self._cpuinfo(cpu) for cpu in self.identified}
        return {
            cpu: "svm" in info["flags"] if info and info["flags"] is not None else None for cpu, info in infos.items()
        }

    def is_sev_guest(self) -> bool | None:
        """SEV_STATUS.SEV; None where it was not read."""
        return SEV_STATUS.bit_of(self.evidence["cpus"]["sev_status"], "SEV")

    # Registers

    def register(self, phase: str, name: str) -> dict[int, int | None]:
        """A register's value by CPU in one snapshot, of the CPUs that were there; None where it could not be read."""
        if (phase, name) not in self._registers:
            snapshot = self._snapshots.get(phase, {})
            values = {cpu: as_int(snapshot.get(str(cpu), {}).get(name)) for cpu in self.there(phase)}
            self._registers[phase, name] = values
        return self._registers[phase, name]

    def register_errors(self, phase: str, name: str) -> dict[int, str]:
        """The errno (or message) of a register that could not be read, by CPU."""
        snapshot = self._snapshots.get(phase, {})
        errors = {cpu: error_of(snapshot.get(str(cpu), {}).get(name)) for cpu in self.there(phase)}
        return {cpu: error for cpu, error in errors.items() if error is not None}

    def register_texts(self, phase: str, name: str) -> dict[int, str]:
        """A register for people: its value ("0xd01"), or why there is none ("EPERM", "unknown")."""
        values, errors = self.register(phase, name), self.register_errors(phase, name)
        return {cpu: errors.get(cpu, text_of(value)) for cpu, value in values.items()}

    def register_cells(self, phase: str, name: str) -> dict[int, str]:
        """The same of every CPU, for a table: "offline" where a CPU was not there."""
        texts = self.register_texts(phase, name)
        return {cpu: texts.get(cpu, "offline") for cpu in self.cpus}

    def efer_steps(self) -> dict[int, str]:
        """EFER in each phase, for people: "0xd01 -> 0x1d01 -> 0xd01". A watched VM that is still alive has two."""
        phases = [phase for phase in SNAPSHOT_PHASES if phase != "closed" or not self.watch or phase in self._snapshots]
        texts = [self.register_cells(phase, "EFER") for phase in phases]
        return {cpu: " -> ".join(text[cpu] for text in texts) for cpu in self.cpus}

    def svme(self, phase: str) -> dict[int, bool | None]:
        """EFER.SVME in one snapshot."""
        return {cpu: svme(value) for cpu, value in self.register(phase, "EFER").items()}

    def svme_set_before(self) -> list[int]:
        """The CPUs whose EFER.SVME was 1 before KVM_CREATE_VM, whoever set it."""
        return [cpu for cpu, value in self.svme("before").items() if value]

    def svmdis(self) -> dict[int, bool | None]:
        """VM_CR.SVMDIS before KVM_CREATE_VM."""
        return {cpu: VM_CR.bit_of(value, "SVMDIS") for cpu, value in self.register("before", "VM_CR").items()}

    def has_snapshot(self, phase: str) -> bool:
        """Whether the registers were read in a phase of SNAPSHOT_PHASES."""
        return phase in self._snapshots

    # Kernel

    def backends(self) -> list[str]:
        """The modules other than kvm_amd that may answer behind /dev/kvm."""
        holders = self.modules["kvm"]["holders"] if "kvm" in self.modules else []
        names = {name for name in self.modules if name.startswith("kvm_")}.union(holders)
        return sorted(names - {"kvm_amd"})

    def backend_text(self) -> str:
        """The backend that is not kvm_amd, for people."""
        names = self.backends()
        if names:
            return f"the backend {', '.join(names)}"
        return "a backend that is not in /sys/module" if self.modules else "another backend (/sys/module was not read)"

    def answers_through(self) -> str:
        """How KVM is there without kvm_amd, after the word "KVM", for people."""
        return f"{'answers' if self.vm_created else 'is registered'} through {self.backend_text()}"

    def backend_evidence(self) -> list[str]:
        """What shows that KVM is there without kvm_amd: lines for a verdict's `because`."""
        created = ["KVM_CREATE_VM: ok"] if self.vm_created else ["/dev/kvm: registered"]
        return [*created, f"modules: {', '.join(self.modules)}"] if self.modules else created

    def enables_at_load(self) -> bool | None:
        """kvm.enable_virt_at_load (since 6.12); None where the kernel has no such parameter."""
        module = self.modules.get("kvm")
        value = module["parameters"].get("enable_virt_at_load") if module else None
        return value in ("Y", "1") if isinstance(value, str) else None

    def enabled_at_load(self) -> bool:
        """kvm_amd is loaded with enable_virt_at_load=Y, so KVM sets EFER.SVME while it is loaded."""
        return self.has_kvm_amd is True and self.enables_at_load() is True

    def kvm_holds_svm(self) -> bool:
        """Whether KVM itself set EFER.SVME on every CPU before our VM."""
        on_every_cpu = all(self.svme("before").values())
        return on_every_cpu and (self.enabled_at_load() or self.other_vms() is not None)

    def works(self) -> bool:
        """The registers show SVM at work: a VM was created, and EFER.SVME was 1 on every online CPU."""
        created = self.svme("created")
        return self.vm_created and bool(created) and all(created.values())

    def kvm_without_svm(self) -> bool:
        """KVM answers although neither raw CPUID nor /proc/cpuinfo has SVM: through another backend."""
        shows = [flag if raw is None else raw for raw, flag in zip(self.svm().values(), self.svm_flag().values())]
        known_absent = bool(shows) and all(value is False for value in shows)
        # A kvm_amd that is built in is present on every host; one that is loaded answers.
        behind = self.has_kvm_amd is False or (self._kvm_amd_is_built_in() and bool(self.backends()))
        # kvm_amd refuses a CPU without SVM. Where the modules are unknown, a VM shows that another backend made it.
        behind = behind or (self.has_kvm_amd is None and self.vm_created)
        # Where nobody asked for a VM (--passive, a watched command), the device that a vendor module registers counts.
        was_not_asked = self.create_vm is None and (self.passive or self.watch is not None)
        could_not_ask = was_not_asked or self._kept_from_asking()
        answers = self.vm_created or (could_not_ask and self.evidence["device"]["registered"] is True)
        return answers and known_absent and behind

    def is_own_create_error(self) -> bool:
        """Whether KVM_CREATE_VM failed for what this process may do or has."""
        return is_own_error("KVM_CREATE_VM", error_of(self.create_vm), self.evidence.get("available_kb"))

    def _kept_from_asking(self) -> bool:
        """Whether this process had too few files or too little memory for a VM, or an ioctl was refused to it."""
        version, opened = self.evidence["ioctls"]["KVM_GET_API_VERSION"], self.evidence["device"]["opened"]
        refused = is_own_error("KVM_GET_API_VERSION", error_of(version))
        return refused or error_of(opened) in LIMITS or self.is_own_create_error()

    def _kvm_amd_is_built_in(self) -> bool:
        return "kvm_amd" in self.modules and self.modules["kvm_amd"]["state"] == "builtin"

    def may_not_open(self) -> bool:
        """A driver has registered /dev/kvm, and this user may not open it."""
        device = self.evidence["device"]
        return device["registered"] is True and error_of(device["opened"]) in NOT_PERMITTED

    # Other VMs

    def _create_events(self) -> list[Uevent]:
        """The uevents of VMs that were created between the snapshots before and after our KVM_CREATE_VM."""
        events = self.evidence["uevents"]["events"]
        return [event for event in events if event["event"] == "create" and event["phase"] == "created"]

    def create_event(self) -> Uevent | None:
        """The uevent of our own KVM_CREATE_VM. In a container its PID is one of another namespace."""
        events = self._create_events()
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

    def guest_left_out(self) -> dict[int, str]:
        """Return the CPUs on which the guest was not to run, and why. Older evidence has none."""
        return {int(cpu): why for cpu, why in self.evidence.get("guest_left_out", {}).items()}

    def foreign_events(self) -> list[Uevent]:
        """The uevents of other processes' VMs."""
        ours = self.create_event()
        pid = ours["pid"] if ours else None
        return [
            event
            for event in self.evidence["uevents"]["events"]
            if not event["ours"] and (pid is None or event["pid"] != pid)
        ]

    def vms_created_in_unknown_order(self) -> int:
        """How many VMs were created with ours, where no COUNT shows which was the first; 0 where ours was alone."""
        ours, events = self.create_event(), self._create_events()
        return 0 if ours and (ours["count"] or len(events) == 1) else len(events)

    def vms_alive_at_create(self) -> int | None:
        """VMs other than ours when ours was created, by the uevent's COUNT."""
        event = self.create_event()
        return event["count"] - 1 if event and event["count"] else None

    def other_vms(self) -> str | None:
        """What shows that other VMs were alive, for people; None where nothing shows any."""
        count = self.vms_alive_at_create()
        names = ", ".join(process_text(user["comm"], user["pid"]) for user in self.evidence["vm_users"] or [])
        counted = f"KVM's uevent counted {count} other VM{'s' if count > 1 else ''}" if count else ""
        return "; ".join(filter(None, (counted, f"VMs of other processes: {names}" if names else ""))) or None

    def users_of_kvm(self) -> int:
        """References to the module kvm that are not its vendor modules: since 6.12 another module's use of
        kvm_enable_virtualization(), by symbol_get() or linked to it. Where VMs are alive, some of them are theirs."""
        module = self.modules.get("kvm")
        vendors = [name for name in module["holders"] if name.startswith("kvm_")] if module else []
        return (module["refcount"] or 0) - len(vendors) if module else 0

    def users(self) -> str | None:
        """That another process had /dev/kvm open, for people. It may be in another container, and with or without a
        VM; None where kvm_amd's reference count shows none."""
        references = self.modules["kvm_amd"]["refcount"] or 0 if "kvm_amd" in self.modules else 0
        return (
            f"kvm_amd had {references} user{'s' if references > 1 else ''} before the probe" if references > 0 else None
        )
