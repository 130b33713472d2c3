"""The arguments of `kvmprobe lab run`, its exit status and its results as KTAP."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from kvmprobe.cli import lab, lab_boots
from kvmprobe.formats import SUITE_FORMATS
from kvmprobe.lab import lab_cases
from kvmprobe.lab.boot_result import ANSWERED, LOST, BootResult
from kvmprobe.lab.booted_probe import BootedReport
from kvmprobe.lab.kernels import Kernel
from kvmprobe.model.errors import EXIT_USAGE
from tests.helpers import strict_ktap
from tests.helpers.recorded_evidence import EVIDENCE
from tests.helpers.run_kvmprobe import kvmprobe


def _parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    lab.add_arguments(parser)
    return parser.parse_args(["run", *arguments])


@pytest.mark.parametrize(
    ("arguments", "names", "for_guest"),
    [
        ("", [], []),
        ("bookworm -q trixie", ["bookworm", "trixie"], []),
        ("--", [], []),
        ("-q -- -v --bogus x", [], ["-v", "--bogus", "x"]),
        ("bookworm -- --", ["bookworm"], ["--"]),
    ],
)
def test_arguments_after_two_dashes_go_to_the_guest(arguments: str, names: list[str], for_guest: list[str]) -> None:
    options = _parse(*arguments.split())
    assert (options.kernels, options.guest_arguments) == (names, for_guest)


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "boot",
        "run --typo",
        "run bookworm --typo trixie",
        "run potato",
        "run bookworm potato",
        "matrix --onl help",
        "matrix -- anything",
        "matrix --only help -- --require nested",
        "matrix --kernel x",
        "run --modules x",
        "run --kernel x --modules y bookworm",
        "run --cpus 0",
        "run --cpus many",
        "run --deadline 0",
        "run --deadline nan",
        "run --reports missing",
        "run --format yaml",
    ],
)
def test_wrong_arguments(arguments: str) -> None:
    done = kvmprobe("lab", *arguments.split())
    assert (done.returncode, done.stdout) == (EXIT_USAGE, "")
    assert done.stderr


@pytest.mark.parametrize(
    ("statuses", "worst"),
    [([0], 0), ([0, 4], 4), ([4, 3, 0], 3), ([3, 1, 0], 1), ([1, 70, 0], 70), ([127, 1], 127), ([64, 70], 64)],
)
def test_the_worst_status(statuses: list[int], worst: int) -> None:
    assert lab_boots.worst(statuses) == worst


def test_in_ktap_a_kernel_without_a_report_is_not_ok() -> None:
    report = json.loads((EVIDENCE / "matrix/bookworm/epyc.json").read_text())
    results = [
        (_kernel("good"), BootedReport(_boot(ANSWERED, 0), report)),
        (_kernel("lost"), BootedReport(_boot(LOST, None, "the kernel never reached init"), None)),
        (_kernel("broken"), BootedReport(_boot(ANSWERED, 127), None)),
    ]
    good, lost, broken = strict_ktap.parse(SUITE_FORMATS["ktap"](lab_cases.of_run(results))).tests
    assert (good.ok, good.names()) == (True, [check["id"] for check in report["checks"]])
    assert (lost.ok, lost.tests[0].comments[-1]) == (False, "# boot: lost: the kernel never reached init")
    assert (broken.ok, broken.tests[0].comments[-1]) == (False, "# boot: kvmprobe ended with status 127")


def _kernel(name: str) -> Kernel:
    return Kernel(name, "6.1.0-test", Path("vmlinux"), Path("base.cpio"), frozenset(), "bookworm")


def _boot(outcome: str, status: int | None, reason: str = "") -> BootResult:
    return BootResult(outcome, reason, status, b"", "", (), 1.0, Path("console"))
