"""The report for people: what stands in it, in which order and volume, and that it fits a terminal."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.formats import render
from kvmprobe.judge import judge
from kvmprobe.judge.check_table import CHECKS
from kvmprobe.model.printable import ascii_only
from tests.helpers.judged_reports import all_reports
from tests.helpers.recorded_evidence import EVIDENCE, RECORDED, recorded, recorded_name

QUIET, USUAL, ALL_CHECKS, EVERYTHING = -1, 0, 1, 2
VOLUMES = (QUIET, USUAL, ALL_CHECKS, EVERYTHING)
CONFIRMED = "matrix/bookworm/epyc"
EVIL = "a\nFAILED b\r\x1b[31m\ud800\u202e\x00 " + "x" * 300


def report_of(name: str) -> Any:
    return judge(recorded(name))


def text_of(report: Any, verbose: int = USUAL, width: int | None = None) -> str:
    return render(report, "text", verbose, False, width)


@pytest.mark.parametrize("report", all_reports())
def test_every_report_in_every_volume(report: Any) -> None:
    for verbose in VOLUMES:
        text = text_of(report, verbose, 80)
        lines = text.splitlines()
        verdict = report["verdict"]
        assert lines[0].startswith(f"{verdict['status'].upper()} {verdict['reason']}: ")
        assert text.endswith("\n")
        assert "\n\n\n" not in text
        assert all(line.isprintable() and line == line.rstrip() for line in lines)
        too_long = [line for line in lines if len(line) > 80 and " " in line.strip()]
        assert too_long == []
        assert not re.search(r"\b(True|False|None)\b|\\n|\{'", text), "no Python in it"


@pytest.mark.parametrize("report", all_reports())
def test_wrapping_changes_no_word(report: Any) -> None:
    for verbose in VOLUMES:
        whole = text_of(report, verbose).split()
        assert text_of(report, verbose, 80).split() == whole
        assert text_of(report, verbose, 30).split() == whole


@pytest.mark.parametrize("report", all_reports())
def test_no_id_of_a_check_is_in_it(report: Any) -> None:
    """People see titles."""
    text = text_of(report, ALL_CHECKS).replace(report["verdict"]["reason"], "")
    ids = [check.id for check in CHECKS if "-" in check.id]
    assert [id for id in ids if re.search(rf"(?<![\w-]){id}(?![\w-])", text)] == []


LINES = 24 - 2  # the command and the next prompt are on the terminal, too


def all_evidence() -> list[Path]:
    """The recorded files; not those of the oracle, whose values were changed at random on every CPU."""
    return sorted(
        path for path in EVIDENCE.rglob("*.json") if path.name != "summary.json" and not path.name.startswith("oracle-")
    )


@pytest.mark.parametrize("path", all_evidence(), ids=recorded_name)
def test_the_usual_report_fits_a_terminal_of_80_by_24(path: Path) -> None:
    stored = json.loads(path.read_text())
    lines = text_of(judge(stored.get("evidence", stored)), USUAL, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= LINES


def test_it_answers_first() -> None:
    text = text_of(report_of("matrix/bookworm/held-second"), USUAL, 80)
    parts = (
        "FAILED svm-held-by-another-owner",
        "What to do:",
        "kvmprobe-lab: Linux",
        "\nEFER",
        "5 skipped; failed: KVM_CREATE_VM;",
    )
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert places[0] == 0


def test_because_breaks_between_its_values() -> None:
    report = report_of("matrix/bookworm/held-second")
    values = ["cpu1: EFER = 0x1d01", "kvm: enabling virtualization on CPU1 failed", "a\nb\xa0c", "KVM_CREATE_VM: EBUSY"]
    report["verdict"]["because"] = values
    report["verdict"]["cause"] = None
    whole = (
        "Because: cpu1: EFER = 0x1d01; kvm: enabling virtualization on CPU1 failed; a; b\\xa0c; KVM_CREATE_VM: EBUSY"
    )
    assert f"\n{whole}\n" in text_of(report)
    lines = whole.replace("failed; a", "failed;\n  a")
    assert f"\n{lines}\n" in text_of(report, USUAL, 80)
    report["verdict"]["because"] = [f"{'word ' * 30}end"]
    assert all(len(line) <= 80 for line in text_of(report, USUAL, 80).splitlines())


def test_the_cause_has_its_name_beside_what_shows_it() -> None:
    """So that a reader can pass it to explain."""
    report = report_of("matrix/bookworm/held-second")
    assert report["verdict"]["cause"] == "svm-owner-not-found"
    assert "\nBecause (cause: svm-owner-not-found): cpu0: EFER = 0xd01; " in text_of(report)
    report["verdict"]["because"] = []
    assert "\nCause: svm-owner-not-found\n" in text_of(report)
    assert "ause" not in text_of(report_of(CONFIRMED)).partition("What to do:")[0]


def test_because_does_not_repeat_the_verdict() -> None:
    report = report_of("matrix/bookworm/held-second")
    report["verdict"].update(cause=None, summary="a failed: EBUSY; b", because=["a failed: EBUSY", "c"])
    assert "\nBecause: c\n" in text_of(report)
    report["verdict"]["because"] = ["b"]
    assert "Because" not in text_of(report)


@pytest.mark.parametrize("lacking", [("cause", "because"), ("because",), ("cause",)])
def test_a_stored_report_without_cause_and_because(lacking: tuple[str, ...]) -> None:
    report = report_of(CONFIRMED)
    for field in lacking:
        report["verdict"].pop(field, None)
    for verbose in VOLUMES:
        assert "Because" not in text_of(report, verbose) or "because" in report["verdict"]


def test_a_stored_report_with_a_check_of_another_version() -> None:
    report = report_of(CONFIRMED)
    report["checks"].append({"id": "old-one", "status": "skip", "message": "x", "hint": None, "blocked_by": "older"})
    report["checks"].append({"id": "old-two", "status": "fail", "message": "y", "hint": None, "blocked_by": None})
    assert "[ FAIL  ] old-two: y" in text_of(report)
    assert "[ SKIP  ] old-one: older failed" in text_of(report, ALL_CHECKS)


def test_steps_are_numbered_and_commands_stand_alone() -> None:
    report = report_of("matrix/bookworm/held-second")
    report["verdict"]["hint"] = "Stop the VMs. Then unload it: `modprobe -r vboxdrv vboxnetflt`. Run `kvmprobe` again."
    text = text_of(report)
    steps = (
        "  1. Stop the VMs.",
        "  2. Then unload it:",
        "         modprobe -r vboxdrv vboxnetflt",
        "  3. Run `kvmprobe` again.",
    )
    assert "\n".join(["What to do:", *steps, ""]) in text


def test_a_single_step_and_a_good_verdict_have_no_numbers() -> None:
    assert "1." not in text_of(report_of("matrix/bookworm/epyc")).partition("kvmprobe-lab")[0]
    report = report_of("matrix/bookworm/no-svm")
    report["verdict"]["hint"] = "Use another CPU model."
    assert "What to do:\n  Use another CPU model.\n" in text_of(report)


def test_quiet_is_the_verdict_and_what_to_do() -> None:
    verdict = report_of("matrix/bookworm/no-svm")["verdict"]
    lines = text_of(report_of("matrix/bookworm/no-svm"), QUIET).splitlines()
    assert lines == [f"FAILED cpu-lacks-svm: {verdict['summary']}", f"What to do: {verdict['hint']}"]


def test_each_check_that_did_not_pass_has_a_line_and_the_others_are_counted() -> None:
    report = report_of("matrix/bookworm/svme-not-set")
    lines = text_of(report).splitlines()
    statuses = [check["status"] for check in report["checks"]]
    assert (statuses.count("fail"), statuses.count("warn"), statuses.count("skip")) == (1, 1, 1)
    assert [line[:9] for line in lines if line.startswith("[")] == ["[ WARN  ]"]
    # The message of the check that decided is the verdict's.
    assert (
        lines[-1]
        == f"{statuses.count('pass')} of {len(statuses)} checks passed, 1 skipped; failed: SVME set; -v shows each."
    )
    report["checks"][0]["status"] = report["checks"][1]["status"] = "unknown"
    unknown = "checks passed, 1 skipped; failed: SVME set; unknown: CPU vendor, extended leaf; -v shows each."
    assert text_of(report).splitlines()[-1].partition(" of 16 ")[2] == unknown
    report["verdict"]["summary"] = "other"
    assert [line[:9] for line in text_of(report).splitlines() if line.startswith("[")] == ["[ FAIL  ]", "[ WARN  ]"]


@pytest.mark.parametrize("path", RECORDED[::7], ids=recorded_name)
def test_verbose_shows_every_check(path: Path) -> None:
    report = report_of(recorded_name(path))
    lines = text_of(report, ALL_CHECKS).splitlines()
    assert sum(bool(re.match(r"\[[ A-Z]{7}\] ", line)) for line in lines) == len(report["checks"])


def test_verbose_names_the_kernels_function_after_the_message() -> None:
    old, new = (text_of(report_of(f"matrix/{suite}/epyc"), ALL_CHECKS) for suite in ("bookworm", "trixie"))
    assert re.search(r"\[ PASS  \] +SVME.* \(svm_hardware_enable\)$", old, re.MULTILINE)
    assert re.search(r"\[ PASS  \] +SVME.* \(svm_enable_virtualization_cpu\)$", new, re.MULTILINE)


def test_twice_verbose_shows_every_cpu_answer_module_and_log_line() -> None:
    report = report_of(CONFIRMED)
    evidence = report["evidence"]
    text = text_of(report, EVERYTHING)
    rows = [line.split() for line in text.splitlines()]
    for cpu in ("cpu0", "cpu1"):
        assert ["EFER", cpu, "0xd01", "0x1d01", "0xd01"] in rows
    for name, answer in evidence["ioctls"]["KVM_CHECK_EXTENSION"].items():
        assert [name, "=", str(answer)] in rows
    for module in evidence["modules"]:
        assert f"\n  {module}: " in text
    for line in evidence["log"]["lines"]:
        assert line["text"] in text
    for run in evidence["guest"]:
        assert f"guest on cpu{run['cpu']}: ok" in text
    assert "  create by python3[122], 1 VM alive" in text


def test_unknown_is_unknown_in_every_place() -> None:
    evidence = recorded("matrix/bookworm/blacklisted")
    evidence["modules"]["kvm"] = {"state": "builtin", "refcount": None, "holders": [], "parameters": {"x": None}}
    evidence["loads"] = [
        {"module": "msr", "status": None, "output": "", "unloaded": None},
        {"module": "cpuid", "status": 1, "output": "modprobe: FATAL: a\nb\n", "unloaded": None},
    ]
    evidence["guest"] = [{"cpu": 0, "result": "skipped", "detail": None, "error": None}]
    evidence["uevents"]["events"] = [
        {
            "event": "create",
            "pid": None,
            "comm": None,
            "ours": False,
            "count": None,
            "created": None,
            "phase": "created",
        }
    ]
    evidence["ioctls"]["KVM_CHECK_EXTENSION"] = {"KVM_CAP_IRQCHIP": None, "KVM_CAP_X": {"error": "EPERM"}}
    lines = text_of(judge(evidence), EVERYTHING).splitlines()
    for line in (
        "kvm: builtin; x=unknown",
        "modprobe msr: could not be run",
        "modprobe cpuid: exit status 1: modprobe: FATAL: a; b",
        "guest on cpu0: skipped",
        "create by process[unknown]",
        "KVM_CAP_IRQCHIP = unknown",
        "KVM_CAP_X = EPERM",
    ):
        assert f"  {line}" in lines


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        (CONFIRMED, ["before", "created", "closed"]),
        ("matrix/bookworm/held-second", ["before", "KVM_CREATE_VM failed", "at the end"]),
        ("soak/bookworm", ["before", "created", "closed"]),
    ],
)
def test_a_column_is_named_created_only_where_a_vm_was(name: str, titles: list[str]) -> None:
    lines = text_of(report_of(name)).splitlines()
    head = lines[next(index for index, line in enumerate(lines) if line.startswith("EFER")) - 1]
    assert re.split(r"  +", head.strip()) == titles


def test_a_thousand_cpus_fit_a_terminal() -> None:
    """Every other CPU differs, so no list of them is short. -vv has a line for each."""
    evidence = recorded(CONFIRMED)
    evidence["cpus"].update({"online": "0-1023", "online_at_end": "0-1023"})
    for table in (evidence["cpus"]["cpuid"], evidence["cpus"]["cpuinfo"], *(s["cpus"] for s in evidence["snapshots"])):
        table.update({str(cpu): copy.deepcopy(table["1"]) for cpu in range(2, 1024)})
    for cpu in range(0, 1024, 2):
        evidence["snapshots"][1]["cpus"][str(cpu)]["EFER"] = "0xd01"
    report = judge(evidence)
    lines = text_of(report, USUAL, 80).splitlines()
    rows = [line for line in lines if line.startswith("EFER")]
    assert [re.split("  +", row)[1] for row in rows] == [
        "cpu0,2,4,6,... (512 CPUs)",
        "cpu1,3,5,7,... (512 CPUs)",
    ]
    assert all(len(row) <= 80 for row in rows)
    assert text_of(report, EVERYTHING, 80).count("\nEFER ") == 1024


def test_registers_that_could_not_be_read_have_one_line() -> None:
    report = report_of("matrix/bookworm/no-msr-device")
    assert "\nEFER, VM_CR, VM_HSAVE_PA could not be read on cpu0-1: ENOENT\n" in text_of(report)
    report["evidence"]["snapshots"][1]["cpus"]["1"]["EFER"] = "0x1d01"
    assert "\nEFER         cpu0    ENOENT  ENOENT   ENOENT\n" in text_of(report, ALL_CHECKS)
    assert "\nVM_CR, VM_HSAVE_PA  cpu0-1  ENOENT  ENOENT   ENOENT\n" in text_of(report)


def test_registers_that_are_the_same_everywhere_have_one_line() -> None:
    at_load = report_of("matrix/trixie/epyc")
    line = "\nEFER 0x1d01, VM_CR 0x0, VM_HSAVE_PA a page each on cpu0-1 at all times\n"
    assert line in text_of(at_load)
    assert line not in text_of(at_load, ALL_CHECKS)
    assert "\nEFER 0xd01, VM_CR 0x0, VM_HSAVE_PA 0x0 on cpu0-1\n" in text_of(report_of("matrix/bookworm/blacklisted"))
    at_load["evidence"]["snapshots"][1]["cpus"]["1"]["EFER"] = "0xd01"
    assert line not in text_of(at_load)


@pytest.mark.parametrize(
    ("name", "vendor", "backend"),
    [
        ("matrix/bookworm/intel", "GenuineIntel", "none loaded"),
        ("hosts/kvm-pvm-without-svm", "GenuineIntel", "kvm_pvm"),
    ],
)
def test_without_svm_only_vendor_and_backend_are_shown(name: str, vendor: str, backend: str) -> None:
    report = report_of(name)
    lines = text_of(report, USUAL, 80).splitlines()
    assert f"CPU vendor   {vendor}" in lines
    assert f"KVM backend  {backend}" in lines
    assert not any(line.startswith(("[", "EFER")) for line in lines)
    for verbose in (ALL_CHECKS, EVERYTHING):
        marks = set(re.findall(r"^\[ *([A-Z]+) *\]", text_of(report, verbose), re.MULTILINE))
        assert "SKIP" in marks <= {"PASS", "SKIP"}, "nothing fails that does not apply"


def test_a_machine_that_is_not_x86_and_modules_that_are_unknown() -> None:
    evidence = recorded("matrix/bookworm/intel")
    evidence["host"]["machine"] = "aarch64"
    evidence["modules"] = None
    text = text_of(judge(evidence))
    assert "CPU vendor   unknown (aarch64)\nKVM backend  unknown\n" in text


def test_usable_is_a_good_verdict() -> None:
    report = report_of(CONFIRMED)
    report["verdict"].update({"status": "usable", "reason": "guest-ran"})
    assert text_of(report).startswith("USABLE guest-ran: ")
    assert render(report, "text", colour=True).startswith("\033[1m\033[32mUSABLE\033[0m ")


@pytest.mark.parametrize("report", all_reports()[::9])
@pytest.mark.parametrize("verbose", VOLUMES)
def test_colour_adds_nothing_but_colour(report: Any, verbose: int) -> None:
    for width in (None, 80):
        coloured = render(report, "text", verbose, True, width)
        assert "\033[" in coloured
        assert re.sub(r"\033\[\d+m", "", coloured) == text_of(report, verbose, width)


def test_hostile_evidence_makes_no_line_of_its_own() -> None:
    report = report_of("matrix/bookworm/svme-not-set")
    hostile = copy.deepcopy(report)
    evidence = hostile["evidence"]
    evidence["host"]["name"] = evidence["kernel"]["release"] = evidence["taken_at"] = EVIL
    evidence["log"]["lines"][0]["text"] = evidence["uevents"]["source"] = EVIL
    hostile["verdict"].update(summary=EVIL, hint=EVIL, because=[EVIL])
    for info in evidence["cpus"]["cpuinfo"].values():
        info["model_name"] = EVIL
    for check in hostile["checks"]:
        check["message"] = EVIL
    for verbose in VOLUMES:
        text = text_of(hostile, verbose)
        assert all(line.isprintable() for line in text.splitlines())
        assert "\nFAILED b" not in text
        assert render(hostile, "text", verbose, True, 80).count("\033[31m") <= len(hostile["checks"]) + 1


def test_in_ascii_the_signs_keep_their_meaning() -> None:
    text = ascii_only(text_of(report_of("soak/bookworm"), EVERYTHING, 80))
    assert "0xd01 -> 0x1d01 -> 0xd01" in text
    assert "times in us" in text
    assert "\\u" not in text


@pytest.mark.parametrize(
    ("name", "parts", "details"),
    [
        (
            "trace/bookworm-create",
            ("\n  KVM_CREATE_VM       2.6 ms  EFER 0x1d01, VM_HSAVE_PA a page each on cpu0-1\n",),
            ("KVM_CREATE_VM in the kernel's trace", "wrmsr EFER 0x1d01"),
        ),
        (
            "watch/bookworm-own",
            ("Watched by python-ptrace", "  KVM_GET_API_VERSION = 12, KVM_CREATE_VM = "),
            ("KVM_CREATE_VM (0xae01) = ", "EFER 0xd01 -> 0x1d01", "not visible: "),
        ),
        ("watch/bookworm-no-vm", ("\n  it exited with status 7\n",), ("; 1 process followed",)),
        ("soak/bookworm", ("cycles, ", "times in µs", "resident memory: "), ()),
        (
            "soak/bookworm-resources",
            (
                "\nguest run (cpu0)    1574.0 ",
                "\none exit (cpu0)      247.2 ",
                "\n24 processes killed, 24 with a VM: 4 being created, 12 alive, 8 being closed\n",
            ),
            ("\nvmalloc memory of the kernel (KiB)      7184      7216 +0.70 KiB per VM\n",),
        ),
        (
            "soak/bookworm-svme-not-cleared",
            ("36 cycles, 7 per second, 1 VM at a time; -v shows times and failures.\n",),
            ("times in µs", "cycle 36, cycle: EFER.SVME is 1 on cpu0-1"),
        ),
    ],
)
def test_other_observers_are_brief_and_verbose_shows_the_details(
    name: str, parts: tuple[str, ...], details: tuple[str, ...]
) -> None:
    report = report_of(name)
    text = text_of(report, USUAL, 80)
    assert [part for part in parts if part not in text] == []
    assert [part for part in details if part in text] == []
    verbose = text_of(report, ALL_CHECKS)
    assert [part for part in details if part not in verbose] == []


def test_many_calls_of_a_watched_command_are_counted() -> None:
    report = report_of("watch/bookworm-own")
    report["evidence"]["watch"]["calls"] *= 3
    assert re.search(r"\n  KVM_GET_API_VERSION = 12, .*, KVM_RUN = 0, 8 more calls; it exited", text_of(report))


def test_a_step_that_an_earlier_version_did_not_look_for_is_not_reported() -> None:
    evidence = recorded("trace/bookworm-create")
    evidence["trace"]["visible"].update(kvm_create_vm=[], kvm_dev_ioctl_create_vm=[])
    assert "absent): kvm_dev_ioctl_create_vm, kvm_create_vm" in text_of(judge(evidence), ALL_CHECKS)
    del evidence["trace"]["visible"]["kvm_dev_ioctl_create_vm"]
    assert "absent): kvm_create_vm" in text_of(judge(evidence), ALL_CHECKS)


def test_a_stored_report_is_shown_as_it_is() -> None:
    """Without being judged again."""
    stored = json.loads((EVIDENCE / "matrix/bookworm/no-svm.json").read_text())
    assert text_of(stored).startswith(f"FAILED cpu-lacks-svm: {stored['verdict']['summary']}")
