"""Evidence of guests in guests, changed: what real kernels did not do, causes of its failures, and near misses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.helpers.cause_changes import Caused, all_of, bare_metal, command_line, surroundings
from tests.helpers.near_changes import Near, near
from tests.helpers.recorded_evidence import recorded
from tests.helpers.variants import Evidence, Variant

GOOD, SHADOW, OFF = (f"nested/bookworm-{name}" for name in ("nested-paging", "shadow-paging", "nested-off"))
FAULT = "nested/bookworm-{}"
FAILED, NOT_RUN = "nested-guest-failed", "nested-guest-not-run"
CONFIRMED = "svme-set-by-create-vm"
PAGINGS = ("nested", "shadow")


def as_recorded(_: Evidence) -> None:
    """Nothing changes."""


def run(cpu: int = 1, paging: str = "nested", **fields: Any) -> Callable[[Evidence], None]:
    """One run has these fields."""
    return lambda evidence: evidence["nested"]["runs"][paging][cpu].update(fields)


def report(cpu: int = 1, paging: str = "nested", **fields: Any) -> Callable[[Evidence], None]:
    """What the outer guest of one run reported has these fields."""
    return lambda evidence: evidence["nested"]["runs"][paging][cpu]["nested"].update(fields)


def not_run(why: str | None, error: str | None = None, pagings: tuple[str, ...] = PAGINGS, cpus: Any = (0, 1)) -> Any:
    """The runs on `cpus` were skipped, or an ioctl failed."""

    def change(evidence: Evidence) -> None:
        for paging in pagings:
            for cpu in cpus:
                result = "failed" if error else "skipped"
                evidence["nested"]["runs"][paging][cpu] = {"cpu": cpu, "result": result, "detail": why, "error": error}

    return change


def supported(value: Any) -> Callable[[Evidence], None]:
    """KVM_GET_SUPPORTED_CPUID gave this, and no run followed."""

    def change(evidence: Evidence) -> None:
        evidence["nested"] = {"supported_cpuid": value, "runs": {}}

    return change


def parameter(value: Any) -> Callable[[Evidence], None]:
    """kvm_amd.nested has this value."""
    return lambda evidence: evidence["modules"]["kvm_amd"]["parameters"].update(nested=value)


def built_in(evidence: Evidence) -> None:
    evidence["modules"]["kvm_amd"].update(state="builtin", refcount=None)


def second_sum(evidence: Evidence) -> None:
    evidence["nested"]["runs"]["shadow"][0]["nested"]["exits"][1]["sum"] = "0x0"


def second_code(evidence: Evidence) -> None:
    evidence["nested"]["runs"]["shadow"][0]["nested"]["exits"][1]["code"] = "0x7f"


def no_second_exit(evidence: Evidence) -> None:
    del evidence["nested"]["runs"]["nested"][0]["nested"]["exits"][1]


def no_exits_expected(evidence: Evidence) -> None:
    """A report that was written by hand: nothing was expected, and nothing came."""
    evidence["nested"]["runs"]["nested"][0]["nested"].update(exits=[], expected=[])


def guest_failed(evidence: Evidence) -> None:
    evidence["guest"][1].update(result="failed", detail="KVM_RUN", error="EFAULT")
    not_run("the guest did not run to its end there", cpus=(1,))(evidence)


def no_paging_left_out(evidence: Evidence) -> None:
    """The guest was not run on cpu1, so no guest ran in it."""
    for runs in (evidence["guest"], *evidence["nested"]["runs"].values()):
        del runs[1]
    evidence["guest_left_out"] = {"1": "isolated"}


def soak_failed(evidence: Evidence) -> None:
    """A guest in a guest failed in a cycle of a soak; the evidence is of that cycle."""
    second_sum(evidence)
    failure = {"cycle": 3, "step": "cycle", "what": "the guest in the guest failed", "reason": FAILED}
    soak = recorded("soak/bookworm")["soak"]
    evidence["soak"] = {**soak, "failed": 1, "failures": [failure], "steps": {"nested": 2}}


def soak_could_not(evidence: Evidence) -> None:
    """A soak was to run a guest in each guest, and no guest ran in a guest."""
    not_run("the CPU is busy")(evidence)
    limits = ["no guest ran in a guest, see its check"]
    evidence["soak"] = {**recorded("soak/bookworm")["soak"], "steps": {"nested": 0}, "limits": limits}


def without_kvm_amd(evidence: Evidence) -> None:
    del evidence["modules"]["kvm_amd"]


def asked_for(evidence: Evidence) -> None:
    """--nested was given, and no VM was created."""
    evidence["nested"] = {"supported_cpuid": None, "runs": {}}


_OTHER_EXCEPTION = all_of(run(result="exception"), report(step="VMRUN again", exception=30))

NESTED: tuple[Variant, ...] = (
    ("nested: not run on one CPU", GOOD, not_run("the CPU is busy", cpus=(1,)), CONFIRMED),
    ("nested: not run with nested paging", GOOD, not_run("the CPU is busy", pagings=("nested",)), CONFIRMED),
    ("nested: run on no CPU", GOOD, not_run("the CPU is busy"), NOT_RUN),
    ("nested: a vCPU was refused", GOOD, not_run("KVM_CREATE_VCPU", "EPERM"), NOT_RUN),
    ("nested: a vCPU was refused on one CPU", GOOD, not_run("KVM_CREATE_VCPU", "EMFILE", cpus=(0,)), CONFIRMED),
    ("nested: the vCPU failed", GOOD, not_run("KVM_CREATE_VCPU", "EEXIST"), FAILED),
    ("nested: left out", GOOD, no_paging_left_out, CONFIRMED),
    ("nested: SVME did not stay set", GOOD, report(efer="0x0"), FAILED),
    ("nested: EFER is unknown", GOOD, report(efer=None), FAILED),
    ("nested: the second sum is wrong", GOOD, second_sum, FAILED),
    ("nested: the second exit code is wrong", GOOD, second_code, FAILED),
    ("nested: no second exit", GOOD, no_second_exit, FAILED),
    ("nested: nothing was expected", GOOD, no_exits_expected, FAILED),
    (
        "nested: another exception",
        GOOD,
        _OTHER_EXCEPTION,
        FAILED,
    ),
    ("nested: an exception before the first step", GOOD, all_of(run(result="exception"), report(step=None)), FAILED),
    ("nested: the guest failed", GOOD, guest_failed, "guest-failed"),
    ("nested: failed in a cycle", GOOD, soak_failed, FAILED),
    ("nested: never run in a soak", GOOD, soak_could_not, "soak-step-not-done"),
    ("nested: no VM", "matrix/bookworm/not-loaded", asked_for, "kvm-amd-not-loaded"),
    ("nested: Intel", "matrix/bookworm/intel", asked_for, "vendor-not-amd"),
    ("nested: another backend", "hosts/kvm-pvm-without-svm", asked_for, "kvm-without-svm"),
    ("nested: SVME shows SVM, /sys/module does not", GOOD, all_of(without_kvm_amd, asked_for), NOT_RUN),
    ("nested: it failed, and /sys/module has no kvm_amd", GOOD, all_of(without_kvm_amd, second_sum), FAILED),
    ("nested: no leaf", GOOD, supported({}), NOT_RUN),
    ("nested: no modules known", GOOD, all_of(asked_for, lambda evidence: evidence.update(modules=None)), NOT_RUN),
)

_REPORTED = r"kvm@vger"
_ON_HARDWARE = all_of(bare_metal, surroundings(vendor="Supermicro", product="AS-2124"))
CAUSED_NESTED: Caused = (
    ("nested-off-by-parameter", OFF, as_recorded, FAILED, ("`modprobe kvm_amd nested=1`", "kvm_amd.nested = 0")),
    ("nested-off-by-parameter", OFF, parameter("N"), FAILED, ("`modprobe kvm_amd nested=1`", "kvm_amd.nested = N")),
    (
        "nested-off-by-parameter",
        OFF,
        all_of(built_in, command_line("kvm_amd.nested=0")),
        FAILED,
        ("Remove kvm_amd.nested=0", "`systemctl reboot`", "command line: kvm_amd.nested=0"),
    ),
    ("nested-not-offered", OFF, parameter("1"), FAILED, ("newest kernel",)),
    (
        "nested-registers-refused",
        FAULT.format("no-svm-for-the-guest"),
        as_recorded,
        FAILED,
        ("hypervisor outside", "#GP at WRMSR EFER"),
    ),
    ("nested-registers-refused", FAULT.format("no-svm-for-the-guest"), _ON_HARDWARE, FAILED, (_REPORTED,)),
    ("nested-vmrun-refused", FAULT.format("no-paging"), _ON_HARDWARE, FAILED, (_REPORTED, "#UD at VMRUN")),
    ("nested-vmrun-refused", FAULT.format("no-host-save-area"), _ON_HARDWARE, FAILED, (_REPORTED, "#GP at VMRUN")),
    ("nested-vmrun-refused", FAULT.format("no-paging-no-handlers"), as_recorded, FAILED, ("triple fault",)),
    (
        "nested-wrong-exit-code",
        FAULT.format("inner-exception"),
        as_recorded,
        FAILED,
        (r"0x46 \(#UD\) instead of 0x81",),
    ),
    ("nested-wrong-sum", FAULT.format("inner-subtracts"), as_recorded, FAILED, ("sum 0xf8091a2f instead of",)),
    ("nested-deadline", FAULT.format("inner-loop"), as_recorded, FAILED, ("no end within its deadline",)),
    (
        "nested-run-failed",
        GOOD,
        run(result="failed", detail="KVM_RUN", error="EFAULT"),
        FAILED,
        ("cpu1: nested paging: KVM_RUN EFAULT at VMRUN again",),
    ),
    (
        "nested-ioctl-refused",
        GOOD,
        supported({"error": "EPERM"}),
        NOT_RUN,
        ("sandbox", "KVM_GET_SUPPORTED_CPUID: EPERM"),
    ),
)

NEAR_NESTED: Near = (
    *near(
        OFF,
        FAILED,
        ("nested=2", parameter("2"), "nested-not-offered"),
        ("nested is unknown", parameter({"error": "EACCES"}), "nested-not-offered"),
    ),
    *near(
        GOOD,
        FAILED,
        ("nested=0 was written since", all_of(parameter("0"), second_sum), "nested-wrong-sum"),
        ("an exit of KVM that is no shutdown", run(result="failed", detail="KVM_EXIT_MMIO"), "nested-run-failed"),
    ),
    *near(GOOD, NOT_RUN, ("KVM_GET_SUPPORTED_CPUID fails", supported({"error": "E2BIG"}), None)),
)
