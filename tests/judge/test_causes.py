"""The table of causes: a case for each row, and what holds for all of them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kvmprobe.judge import judge
from kvmprobe.judge.causes import CAUSES
from kvmprobe.model.reasons import REASONS
from tests.helpers.cause_changes import (
    BASE,
    all_of,
    attempt,
    command_line,
    device,
    ioctl,
    line,
    module,
    module_files,
    refused,
    release,
    rights,
    unread,
    user,
)
from tests.helpers.cause_variants import CAUSED
from tests.helpers.evidence_changes import log, no_flag
from tests.helpers.near_cause_variants import NEAR
from tests.helpers.recorded_evidence import RECORDED, recorded, recorded_name
from tests.helpers.variants import held_at_create, no_kvm_amd, set_everywhere

IDS = [f"{index}-{row[0]}" for index, row in enumerate(CAUSED)]


def verdict_of(base: str, change: Any) -> Any:
    evidence = recorded(base)
    change(evidence)
    return judge(evidence)["verdict"]


def assert_plain(verdict: Any) -> None:
    """Its texts have no value of Python, and no two stops in a row."""
    for text in (verdict["summary"], verdict["hint"], *verdict["because"]):
        assert not re.search(r"\b(None|True|False)\b|[:;,.][.;,]", text.replace("...", "")), text


@pytest.mark.parametrize(("cause", "base", "change", "reason", "patterns"), CAUSED, ids=IDS)
def test_cause(cause: str, base: str, change: Any, reason: str, patterns: tuple[str, ...]) -> None:
    verdict = verdict_of(base, change)
    assert (verdict["reason"], verdict["cause"]) == (reason, cause), verdict
    assert_plain(verdict)
    for pattern in patterns:
        assert re.search(pattern, f"{verdict['hint']}\n" + "\n".join(verdict["because"])), (pattern, verdict)


@pytest.mark.parametrize(("name", "base", "change", "reason", "cause"), NEAR, ids=[row[0] for row in NEAR])
def test_without_one_part_of_a_cause(name: str, base: str, change: Any, reason: str, cause: str | None) -> None:
    verdict = verdict_of(base, change)
    assert (verdict["reason"], verdict["cause"]) == (reason, cause), verdict
    assert_plain(verdict)


def test_every_cause_has_a_case() -> None:
    assert {row[0] for row in CAUSED} == set(CAUSES)


@pytest.mark.parametrize("name", CAUSES)
def test_row_is_complete(name: str) -> None:
    cause = CAUSES[name]
    assert name == cause.name
    assert name not in REASONS
    assert re.fullmatch("[a-z0-9-]+", name)
    assert cause.reasons
    assert set(cause.reasons) <= set(REASONS)
    assert cause.when.endswith(".")
    assert cause.what_to_do().endswith(".")
    assert not re.search(r"[{}]|\b(THEN|LOAD|FIRST|SECOND|TURNS|UNLOAD)\b", cause.what_to_do())


def test_every_case_belongs_to_a_reason_of_its_row() -> None:
    for cause, _, _, reason, _ in CAUSED:
        assert reason in CAUSES[cause].reasons


ALL = [*((recorded_name(path), lambda _: None) for path in RECORDED), *((row[1], row[2]) for row in CAUSED)]


@pytest.mark.parametrize(("base", "change"), ALL)
def test_root_is_not_advised_to_become_root(base: str, change: Any) -> None:
    evidence = recorded(base)
    change(evidence)
    evidence["host"]["euid"] = 0
    hint = judge(evidence)["verdict"]["hint"]
    assert not re.search(r"[Rr]un [`]?kvmprobe[`]? (again )?as root|`sudo (kvmprobe|modprobe kvm_amd)`$", hint), hint


def test_a_user_gets_sudo_before_roots_commands() -> None:
    change = all_of(refused("kvm: already loaded vendor module 'kvm_pvm'"), module("kvm_pvm"), user(1000))
    assert "`sudo modprobe -r kvm_pvm`" in verdict_of(BASE, change)["hint"]


def test_without_a_cause_the_last_lines_about_kvm_are_quoted() -> None:
    texts = [f"kvm: line {number}" for number in range(9)]
    noise = ("clocksource: Switched to clocksource kvm-clock", "br0: port 1(kvmbr0) entered blocking state")
    verdict = verdict_of(BASE, refused(*texts, *noise, answer="Some new error"))
    assert verdict["cause"] is None
    assert verdict["hint"] == REASONS["kvm-amd-load-failed"].hint
    assert [line for line in verdict["because"] if line.startswith("kernel log: ")] == [
        f"kernel log: {text}" for text in texts[-5:]
    ]


def test_a_refusal_that_is_settled_is_no_cause() -> None:
    """kvm_pvm was unloaded since; and kvm_amd was loaded after NX had been refused, and unloaded by somebody."""
    settled = refused("kvm: already loaded vendor module 'kvm_pvm'")
    for change in (
        all_of(no_kvm_amd, log("kvm: already loaded vendor module 'kvm_pvm'")),
        all_of(no_kvm_amd, log("kvm_amd: NX (Execute Disable) not supported", "kvm_amd: Nested Paging enabled")),
    ):
        verdict = verdict_of(BASE, change)
        assert (verdict["reason"], verdict["cause"]) == ("kvm-amd-not-loaded", None)
    assert verdict_of(BASE, settled)["cause"] is None


def test_of_several_refusals_the_last_one_counts() -> None:
    change = refused("kvm_amd: NX (Execute Disable) not supported", "kvm: inadequate fpu", "kvm: no hardware support")
    assert verdict_of(BASE, change)["cause"] == "fpu-inadequate"


def test_a_refusal_of_the_module_loader_beats_an_older_one_of_kvm() -> None:
    change = refused("kvm_amd: NX (Execute Disable) not supported", answer="Key was rejected by service")
    assert verdict_of(BASE, change)["cause"] == "module-unsigned"


def test_refusals_of_other_modules_do_not_count() -> None:
    texts = (
        "nvidia: disagrees about version of symbol x",
        "vboxdrv: Unknown symbol y (err -2)",
        "Module nouveau is blacklisted",
    )
    assert verdict_of(BASE, refused(*texts))["cause"] is None


def test_the_kernels_refusal_at_boot_is_a_refusal_without_an_attempt() -> None:
    verdict = verdict_of(BASE, all_of(no_kvm_amd, log("kvm_amd: NX (Execute Disable) not supported")))
    assert (verdict["reason"], verdict["cause"]) == ("kvm-amd-load-failed", "no-nx")


def test_host_with_sme_is_no_sev_guest() -> None:
    lines = ("Memory Encryption Features active: AMD SME", "kvm_amd: SEV enabled (ASIDs 1 - 509)", "ccp: SEV API:1.55")
    assert verdict_of(BASE, log(*lines))["status"] == "confirmed"


def test_registers_beat_the_log() -> None:
    """Whatever old lines the log has: SVME was set, and a guest ran."""
    lines = ("kvm: disabled by bios", "KVM is unsupported when running as an SEV guest", "has_svm: svm not available")
    assert verdict_of(BASE, log(*lines))["status"] == "confirmed"


def test_the_log_decides_where_registers_cannot() -> None:
    def unreadable(evidence: Any) -> None:
        no_kvm_amd(evidence)
        set_everywhere(evidence, "VM_CR", {"error": "ENOENT"})
        for leaves in evidence["cpus"]["cpuid"].values():
            leaves.update({leaf: {"error": "ENOENT"} for leaf in leaves})

    bios = all_of(unreadable, log("kvm: support for 'kvm_amd' disabled by bios"))
    assert verdict_of(BASE, bios)["reason"] == "firmware-disabled"
    bit = all_of(unreadable, no_flag, log("has_svm: svm not available", "kvm: no hardware support for 'kvm_amd'"))
    assert verdict_of(BASE, bit)["reason"] == "cpu-lacks-svm"
    cleared = all_of(bit, log("Clearing CPUID bits: svm", "has_svm: svm not available"))
    assert verdict_of(BASE, cleared)["cause"] == "svm-cleared-by-clearcpuid"


@pytest.mark.parametrize("name", ["kvm_intel", "kvm_pvm"])
@pytest.mark.parametrize("state", ["live", "builtin"])
def test_vendor_modules_are_no_owners_of_svm(name: str, state: str) -> None:
    verdict = verdict_of(BASE, all_of(held_at_create, module(name, state=state)))
    assert verdict["cause"] == "svm-owner-not-found"
    assert name not in verdict["hint"] + verdict["summary"]


NEEDS_N = "This VirtualBox needs kvm.enable_virt_at_load=0"
NEEDS_Y = "no kvm.enable_virt_at_load=0"


@pytest.mark.parametrize(
    ("kernel", "version", "advice"),
    [
        ("6.12.107+deb13-amd64", None, NEEDS_N),
        ("6.12.107+deb13-amd64", "7.2.12 r170000", NEEDS_N),
        ("6.15.9-generic", "7.2.10 r169000", NEEDS_N),
        ("6.16.0-generic", "7.2.8 r168000", NEEDS_N),
        ("6.16.0-generic", "7.0.16_Ubuntu r162802", NEEDS_N),
        ("6.16.0-generic", "7.2.10_Debian r169000", NEEDS_Y),
        ("7.3.4+deb13-amd64", "7.10.0", NEEDS_Y),
        ("6.16.0-generic", None, "VirtualBox before 7.2.10 needs kvm.enable_virt_at_load=0"),
    ],
)
def test_virtualbox_and_virt_at_load_depend_on_the_versions(kernel: str, version: str | None, advice: str) -> None:
    running = module("vboxdrv", refcount=1, **({"version": version} if version else {}))
    held = all_of(held_at_create, running, release(kernel))
    assert "enable_virt_at_load" not in verdict_of(BASE, held)["hint"]  # a kernel without the parameter
    change = all_of(held, lambda e: e["modules"]["kvm"]["parameters"].update(enable_virt_at_load="N"))
    assert advice in verdict_of(BASE, change)["hint"]


def test_virtualbox_where_efer_could_not_be_read() -> None:
    """An ordinary user's EBUSY, and a kvm_amd that could not load, beside VMs of VirtualBox; ENOMEM is no such sign."""
    running = all_of(module("vboxdrv", refcount=1), unread("EACCES"))
    assert verdict_of(BASE, all_of(ioctl("KVM_CREATE_VM", "EBUSY"), running))["cause"] == "virtualbox-vms-running"
    assert verdict_of(BASE, all_of(ioctl("KVM_CREATE_VM", "ENOMEM"), running))["cause"] == "out-of-resource"
    lines = ("kvm_amd: Nested Paging enabled", "kvm: enabling virtualization on CPU1 failed")
    failed = all_of(refused(*lines, answer="Input/output error"), running)
    verdict = verdict_of(BASE, failed)
    assert (verdict["reason"], verdict["cause"]) == ("kvm-amd-load-failed", "virtualbox-vms-running")


def test_a_vm_that_could_not_be_created_is_no_refusal_to_load() -> None:
    """Before 6.12 the same line comes from KVM_CREATE_VM."""
    lines = ("kvm: Nested Virtualization enabled", "kvm: enabling virtualization on CPU1 failed")
    verdict = verdict_of(BASE, all_of(no_kvm_amd, log(*lines)))
    assert (verdict["reason"], verdict["cause"]) == ("kvm-amd-not-loaded", None)


def test_modprobe_success_in_vain_without_other_vendor_is_an_install_line() -> None:
    assert verdict_of(BASE, attempt("", 0))["cause"] == "install-line"


BAD = "x'; rm -rf ~ #`$(id)`"


@pytest.mark.parametrize(
    "change",
    [
        all_of(attempt("", 0), module_files(lines=[{**line("install kvm_amd /bin/true"), "file": BAD}])),
        all_of(no_kvm_amd, command_line(f"module_blacklist=kvm_amd,{BAD}")),
        all_of(device("EISDIR", type="folder"), lambda e: e["device"].update(path=BAD)),
        all_of(device("EACCES"), rights(dev_mounts=[{"path": BAD, "type": "x", "options": "nodev"}])),
        all_of(held_at_create, module("vboxdrv", refcount=1, holders=[BAD])),
    ],
)
def test_a_command_has_nothing_from_evidence_that_a_shell_would_run(change: Any) -> None:
    """Evidence may be another machine's, and people copy the commands."""
    verdict = verdict_of(BASE, change)
    assert verdict["cause"] is not None
    commands = re.findall(r"`([^`]*)`", verdict["hint"])
    assert not [command for command in commands if "; rm" in command or "$(id)" in command]
    assert verdict["hint"].count("`") % 2 == 0


@pytest.mark.parametrize("holders", [["kvm_amd"], ["holder", "kvm_amd"]])
def test_a_module_that_switched_svm_on_through_kvm(holders: list[str]) -> None:
    """It took a reference by symbol_get(), or is linked to kvm's functions and stands among its holders."""

    def change(evidence: Any) -> None:
        evidence["modules"]["kvm"].update(refcount=2, holders=holders)
        evidence["modules"]["kvm"]["parameters"]["enable_virt_at_load"] = "N"
        evidence["uevents"].update(source=None, events=[])

    verdict = verdict_of("matrix/trixie/epyc", change)
    assert (verdict["reason"], verdict["cause"]) == ("svme-owner-unknown", "svm-held-through-kvm")
    assert "KVM_CREATE_VM succeeded" in verdict["hint"]


def test_a_log_line_that_was_settled_since_is_no_cause() -> None:
    """The log keeps the line of a wrong parameter until the reboot; kvm_amd was loaded after it."""
    wrong = "kvm_amd: `maybe' invalid for parameter `npt'"
    loaded = "kvm: Nested Virtualization enabled"
    assert verdict_of(BASE, all_of(no_kvm_amd, log(loaded, wrong)))["cause"] == "parameter-invalid"
    assert verdict_of(BASE, all_of(no_kvm_amd, log(wrong, loaded)))["cause"] is None
    refused = all_of(attempt("Operation not permitted"), log(wrong))
    assert verdict_of(BASE, refused)["cause"] == "load-not-permitted"


def test_a_mount_hides_those_before_it() -> None:
    devtmpfs = {"path": "/dev", "type": "devtmpfs", "options": "rw,nodev"}
    tmpfs = {"path": "/dev", "type": "tmpfs", "options": "rw"}
    missing = all_of(device("ENOENT", type=None), rights(dev_mounts=[devtmpfs, tmpfs]))
    assert verdict_of(BASE, missing)["cause"] == "no-devtmpfs"
    assert verdict_of(BASE, all_of(device("EACCES"), rights(dev_mounts=[devtmpfs, tmpfs])))["cause"] != "nodev-mount"
    assert verdict_of(BASE, all_of(device("EACCES"), rights(dev_mounts=[tmpfs, devtmpfs])))["cause"] == "nodev-mount"
