"""What kvm_amd made of each feature, compared with the kernels' own log lines, and with 142 real CPUs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kvmprobe.formats import render
from kvmprobe.judge import judge
from kvmprobe.judge.features.feature_table import FEATURES
from kvmprobe.model.json_schema import first_error, report_schema
from tests.helpers.feature_runs import RUNS, in_effect, logged, recorded_run, rows
from tests.helpers.recorded_evidence import CASES, RECORDED, recorded

CPUS = json.loads((Path(__file__).parent / "cpus.json").read_text())
EACH_RUN = [(kernel, parameters) for kernel, runs in RUNS.items() for parameters in runs]
# What the lab's emulated CPU does not claim.
NOT_CLAIMED = {"gmet", "x2avic", "vnmi", "v-spec-ctrl"}
EVERY = set(FEATURES) - NOT_CLAIMED
# What each parameter takes away, besides AVIC, which is off unless it is asked for.
TAKES = {
    "": set(),
    "avic=1": set(),
    "npt=0 avic=1": {"npt", "avic", "ipiv", "vls"},
    "nested=0": {"nested"},
    "nrips=0": {"nrips"},
    "lbrv=0": {"lbrv"},
    "tsc_scaling=0": {"tsc-scaling"},
    "vls=0": {"vls"},
    "vgif=0": {"vgif"},
    "pause_filter_thresh=0": {"pause-filter-threshold", "pause-filter"},
    "pause_filter_count=0": {"pause-filter"},
}


@pytest.mark.parametrize(("kernel", "parameters"), EACH_RUN)
def test_effects_are_those_of_the_kernels_log(kernel: str, parameters: str) -> None:
    shown, used = logged(RUNS[kernel][parameters]["log"], kernel)
    assert in_effect(recorded_run(kernel, parameters)) & shown == used


@pytest.mark.parametrize(("kernel", "parameters"), EACH_RUN)
def test_each_parameter_takes_its_features_and_those_that_need_them(kernel: str, parameters: str) -> None:
    off = TAKES[parameters] | (set() if "avic=1" in parameters else {"avic", "ipiv"})
    assert in_effect(recorded_run(kernel, parameters)) == EVERY - off


@pytest.mark.parametrize("kernel", RUNS)
def test_the_first_no_is_named(kernel: str) -> None:
    without_npt = rows(recorded_run(kernel, "npt=0 avic=1"))
    assert (without_npt["npt"]["first_no"], without_npt["npt"]["why"][:15]) == ("parameter", "kvm_amd.npt is ")
    for name in ("avic", "vls"):
        assert without_npt[name]["first_no"] == "needs"
        assert without_npt[name]["why"] == f"it needs npt: {without_npt['npt']['why']}"
    assert without_npt["ipiv"]["why"].startswith("it needs avic: it needs npt: ")
    assert rows(recorded_run(kernel, "nested=0"))["nested"]["why"] == "kvm_amd.nested is 0"
    assert rows(recorded_run(kernel, ""))["avic"]["first_no"] == "parameter"


def test_pause_filter_without_a_threshold_is_unknown_where_the_kernel_may_be_older_than_the_rule() -> None:
    """5.10 has the rule, and no parameter that is younger than it."""
    assert rows(recorded_run("bookworm", "pause_filter_thresh=0"))["pause-filter"]["first_no"] == "rule"
    row = rows(recorded_run("bullseye", "pause_filter_thresh=0"))["pause-filter"]
    assert (row["in_effect"], row["first_no"]) == (None, None)
    assert row["why"].startswith("kvm_amd.pause_filter_thresh is 0")


@pytest.mark.parametrize(("name", "kernel"), [("gmet", "bookworm"), ("vnmi", "bookworm"), ("vnmi", "bullseye")])
def test_a_feature_that_the_kernel_does_not_know(name: str, kernel: str) -> None:
    evidence = recorded_run(kernel, "avic=1")
    for leaves in evidence["cpus"]["cpuid"].values():
        leaves["0x8000000a"][3] = hex(int(leaves["0x8000000a"][3], 16) | 1 << 17 | 1 << 25)
    row = rows(evidence)[name]
    assert (row["cpu"], row["kernel"], row["in_effect"], row["first_no"]) == (True, False, False, "kernel")
    assert row["why"] == f"this kernel's kvm_amd has no parameter {name}"


def test_a_feature_that_clearcpuid_hides() -> None:
    evidence = recorded_run("trixie", "vls=0")
    for info in evidence["cpus"]["cpuinfo"].values():
        info["svm_flags"].remove("v_vmsave_vmload")
        info["svm_flags"].remove("decodeassists")
    found = rows(evidence)
    assert found["vls"]["first_no"] == "parameter"  # the kernel has the parameter, which shows that it knows it
    assert found["decode-assists"]["first_no"] == "kernel"
    assert "no flag decodeassists" in found["decode-assists"]["why"]


def cpuid_without(evidence: Any, bit: int, *cpus: str) -> Any:
    """Clear a bit of CPUID 0x8000000A EDX on some CPUs."""
    for cpu in cpus:
        leaf = evidence["cpus"]["cpuid"][cpu]["0x8000000a"]
        leaf[3] = hex(int(leaf[3], 16) & ~(1 << bit))
    return evidence


def on_bare_metal(evidence: Any) -> Any:
    """Clear CPUID's bit "hypervisor"."""
    for leaves in evidence["cpus"]["cpuid"].values():
        leaves["0x1"][2] = hex(int(leaves["0x1"][2], 16) & ~(1 << 31))
    return evidence


def test_the_cpus_that_lack_a_feature_are_named() -> None:
    row = rows(on_bare_metal(cpuid_without(recorded_run("trixie", "avic=1"), 13, "1")))["avic"]
    assert (row["cpu"], row["lacking"], row["in_effect"], row["first_no"]) == (False, "1", False, "cpu")
    assert row["why"] == "it is missing on cpu1 (CPUID 0x8000000a EDX bit 13 is 0)"


def test_in_a_vm_the_hypervisor_may_hide_the_feature() -> None:
    row = rows(cpuid_without(recorded_run("trixie", "avic=1"), 13, "0", "1"))["avic"]
    assert row["allowed"] is None
    assert row["why"].startswith("the hypervisor outside does not offer it, or the CPU does not have it")


def test_a_parameter_that_stays_on_does_not_count_where_the_cpu_lacks_the_feature() -> None:
    """5.10 leaves npt=1 on a CPU without nested paging, and logs "Nested Paging disabled"."""
    evidence = recorded("matrix/bullseye/no-npt")
    assert evidence["modules"]["kvm_amd"]["parameters"]["npt"] == "1"
    assert rows(evidence)["npt"]["first_no"] == "cpu"


@pytest.mark.parametrize(("kernel", "expected"), [("bullseye", None), ("trixie", True)])
def test_without_cpuid_a_parameter_counts_where_the_kernel_writes_it_back(kernel: str, expected: bool | None) -> None:
    """6.1 and later write npt=N where they do not use it. 5.10 does not."""
    evidence = recorded_run(kernel, "avic=1")
    evidence["cpus"]["cpuid"] = {cpu: {"0x0": {"error": "EPERM"}} for cpu in evidence["cpus"]["cpuid"]}
    evidence["cpus"]["cpuinfo"] = {"error": "EPERM"}
    del evidence["ioctls"]["KVM_GET_SUPPORTED_CPUID"]
    found = rows(evidence)
    assert (found["npt"]["cpu"], found["npt"]["in_effect"]) == (None, expected)
    assert (found["decode-assists"]["in_effect"], found["decode-assists"]["why"]) == (None, "CPUID could not be read")
    assert found["avic"]["in_effect"] is True


def test_kvms_own_offer_shows_that_a_feature_is_used() -> None:
    evidence = recorded_run("trixie", "")
    evidence["modules"]["kvm_amd"]["parameters"]["vgif"] = {"error": "EACCES"}
    assert rows(evidence)["vgif"]["in_effect"] is True
    evidence["ioctls"]["KVM_GET_SUPPORTED_CPUID"] = {"error": "E2BIG"}
    row = rows(evidence)["vgif"]
    assert (row["offered"], row["in_effect"], row["first_no"]) == (None, None, None)
    assert row["why"] == "kvm_amd.vgif could not be read: EACCES"


def test_a_parameter_that_old_evidence_does_not_have_is_unknown() -> None:
    evidence = cpuid_with_every_bit(recorded("matrix/trixie/epyc"))
    found = rows(evidence)
    assert (found["nrips"]["kernel"], found["nrips"]["in_effect"]) == (None, None)
    assert found["nrips"]["why"] == "the evidence does not have kvm_amd.nrips"
    assert (found["flush-by-asid"]["in_effect"], found["flush-by-asid"]["kernel"]) == (None, None)
    assert found["npt"]["in_effect"] is True


def cpuid_with_every_bit(evidence: Any) -> Any:
    """Set all bits of CPUID 0x8000000A EDX."""
    for leaves in evidence["cpus"]["cpuid"].values():
        leaves["0x8000000a"][3] = "0xffffffff"
    return evidence


@pytest.mark.parametrize(("family", "message"), [("23", "0x17"), ("24", "0x18"), ("25", None)])
def test_erratum_1235(family: str, message: str | None) -> None:
    evidence = recorded_run("trixie-backports", "avic=1")
    evidence["modules"]["kvm_amd"]["parameters"]["enable_ipiv"] = "N"
    for info in evidence["cpus"]["cpuinfo"].values():
        info["cpu_family"] = family
    row = rows(evidence)["ipiv"]
    assert row["in_effect"] is False
    if message:
        assert (row["first_no"], row["why"].startswith(f"erratum 1235 of family {message}")) == ("rule", True)
    else:
        assert (row["first_no"], row["why"]) == ("parameter", "kvm_amd.enable_ipiv is N")


def test_x2avic_needs_avic_and_the_kernels_flag() -> None:
    evidence = recorded_run("trixie", "avic=1")
    for leaves in evidence["cpus"]["cpuid"].values():
        leaves["0x8000000a"][3] = hex(int(leaves["0x8000000a"][3], 16) | 1 << 18)
    assert rows(evidence)["x2avic"]["first_no"] == "kernel"
    for info in evidence["cpus"]["cpuinfo"].values():
        info["flags"].append("x2avic")
    assert rows(evidence)["x2avic"]["in_effect"] is True
    evidence["modules"]["kvm_amd"]["parameters"]["avic"] = "N"
    row = rows(evidence)["x2avic"]
    assert (row["in_effect"], row["why"]) == (False, "it needs avic: kvm_amd.avic is N")


def test_a_firmware_that_hides_avic() -> None:
    """CPUID shows x2AVIC without AVIC: the kernel calls it a bug of the firmware. force_avic=1 uses it anyway."""
    evidence = cpuid_without(recorded_run("trixie", ""), 13, "0", "1")
    for leaves in evidence["cpus"]["cpuid"].values():
        leaves["0x8000000a"][3] = hex(int(leaves["0x8000000a"][3], 16) | 1 << 18)
    row = rows(evidence)["avic"]
    assert (row["first_no"], row["allowed"]) == ("firmware", False)
    evidence["modules"]["kvm_amd"]["parameters"].update(force_avic="Y", avic="Y")
    assert rows(evidence)["avic"]["in_effect"] is True


def test_avic_on_an_snp_host() -> None:
    evidence = recorded_run("trixie", "")
    line = "kvm_amd: AVIC disabled: missing HvInUseWrAllowed on SNP-enabled system"
    evidence["log"]["lines"].append({"seconds": 2.0, "text": line})
    row = rows(evidence)["avic"]
    assert (row["first_no"], row["why"]) == ("rule", f"the kernel's log: {line}")


@pytest.mark.parametrize("kernel", ["bullseye", "bookworm", "trixie", "trixie-backports"])
def test_svm_that_the_firmware_disabled(kernel: str) -> None:
    row = rows(recorded(f"matrix/{kernel}/svmdis"))["npt"]
    assert (row["cpu"], row["allowed"], row["first_no"]) == (True, False, "firmware")
    assert row["why"] == "the firmware disabled SVM: VM_CR.SVMDIS is 1 on cpu0"


def test_kvm_amd_that_is_missing_or_did_not_start() -> None:
    row = rows(recorded("matrix/trixie/not-loaded"))["npt"]
    assert (row["in_effect"], row["first_no"], row["why"]) == (False, "not-loaded", "kvm_amd is not loaded")
    evidence = recorded_run("trixie", "")
    module = evidence["modules"]["kvm_amd"]
    for state, registered, expected in (
        ("builtin", True, True),
        ("builtin", False, False),
        ("builtin", None, None),
        ("coming", True, None),
    ):
        module["state"], evidence["device"]["registered"] = state, registered
        evidence["ioctls"].pop("KVM_GET_SUPPORTED_CPUID", None)
        assert rows(evidence)["npt"]["in_effect"] is expected, (state, registered)
    evidence["modules"] = None
    assert rows(evidence)["npt"]["why"] == "whether kvm_amd started is unknown"


@pytest.mark.parametrize("name", ["matrix/trixie/intel", "matrix/trixie/amd-as-intel", "hosts/kvm-pvm-without-svm"])
def test_no_rows_where_kvm_amd_decides_nothing(name: str) -> None:
    assert rows(recorded(name)) == {}


@pytest.mark.parametrize("path", [*RECORDED, *CASES], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_rows_contradict_nothing(path: Path) -> None:
    schema = report_schema()
    evidence = json.loads(path.read_text())
    for row in rows(evidence.get("evidence", evidence)).values():
        assert first_error(row, schema["$defs"]["feature"], schema) is None
        assert (row["in_effect"] is False) == (row["first_no"] is not None)
        assert (row["in_effect"] is True) == (row["why"] is None)
        assert not row["in_effect"] or (row["cpu"] is not False and row["allowed"] is not False)
        assert (row["cpu"] is False) == (row["lacking"] is not None)


@pytest.mark.parametrize("cpu", CPUS, ids=lambda cpu: f"{cpu[0].strip() or cpu[1]}-{cpu[2]}-{cpu[3]}-{cpu[4]}")
def test_real_cpus_have_what_their_cpuid_shows(cpu: Any) -> None:
    """On 7.3 with every parameter on, as a kernel that knows these flags shows them."""
    _, vendor, family, model, _, leaves = cpu
    zero = ["0x0"] * 4
    evidence = recorded_run("trixie-backports", "avic=1")
    svm = int(leaves.get("0x80000001", zero)[2], 16) >> 2 & 1
    edx = int(leaves.get("0x8000000a", zero)[3], 16) if int(leaves["0x80000000"][0], 16) >= 0x8000000A else 0
    for number, info in evidence["cpus"]["cpuinfo"].items():
        evidence["cpus"]["cpuid"][number] = {leaf: leaves.get(leaf, zero) for leaf in evidence["cpus"]["cpuid"][number]}
        info.update(vendor_id=vendor, cpu_family=str(family), model=str(model))
    for name, row in rows(evidence).items():
        bit = {"nested": svm, "ipiv": edx >> 13 & 1}.get(name, edx >> _BITS.get(name, 0) & 1)
        assert row["cpu"] is bool(bit), name
        assert row["lacking"] == (None if bit else "0-1")
        if not bit:
            assert row["first_no"] in ("cpu", "firmware")


_BITS = {
    "npt": 0,
    "lbrv": 1,
    "nrips": 3,
    "tsc-scaling": 4,
    "vmcb-clean": 5,
    "flush-by-asid": 6,
    "decode-assists": 7,
    "pause-filter": 10,
    "pause-filter-threshold": 12,
    "avic": 13,
    "vls": 15,
    "vgif": 16,
    "gmet": 17,
    "x2avic": 18,
    "v-spec-ctrl": 20,
    "vnmi": 25,
}


def test_every_zen_has_what_kvm_amd_uses_by_default() -> None:
    """Of the public dumps from bare metal, family 0x17 and later. AVIC is hidden by the firmware of many."""
    needed = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 7 | 1 << 10 | 1 << 12 | 1 << 15 | 1 << 16
    zens = [cpu for cpu in CPUS if cpu[2] >= 0x17 and not int(cpu[5]["0x1"][2], 16) >> 31 & 1]
    assert len(zens) > 30
    assert [cpu[0] for cpu in zens if int(cpu[5]["0x8000000a"][3], 16) & needed != needed] == []


def test_the_report_in_json_has_the_rows() -> None:
    whole = json.loads(render(judge(recorded("features/trixie")), "json"))
    jsonschema.validate(whole, report_schema())
    assert [row["name"] for row in whole["features"]] == list(FEATURES)
    assert {row["name"] for row in whole["features"] if row["in_effect"]} == EVERY


def test_a_table_in_text_names_the_cpus_that_lack_a_feature() -> None:
    report = judge(on_bare_metal(cpuid_without(recorded_run("trixie", "avic=1"), 13, "1")))
    text = render(report, "text", 1)
    row = next(line for line in text.splitlines() if line.startswith("  avic "))
    assert row.split(None, 1)[1].startswith("not cpu1 ")
    assert row.endswith(" no")
    assert "Features" not in render(report, "text")
    assert '"not cpu1"' in render(report, "html")


@pytest.mark.parametrize("value", ["9" * 10_000, "0" * 10_000, "x" * 10_000, "\u0662", "", "-1", "auto\n"])
def test_a_value_that_no_kernel_shows_stays_short(value: str) -> None:
    evidence = recorded_run("trixie", "")
    evidence["modules"]["kvm_amd"]["parameters"]["avic"] = value
    row = rows(evidence)["avic"]
    assert row["in_effect"] is {"9": True, "0": False}.get(value[:1])
    assert len(row["why"] or "") < 100
    table = render(judge(evidence), "text", 1).partition("Features of kvm_amd")[2]
    assert max(map(len, table.splitlines())) < 200
