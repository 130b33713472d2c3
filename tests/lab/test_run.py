"""The arguments of `kvmprobe lab run`, and which status it ends with."""

from __future__ import annotations

import argparse

import pytest

from kvmprobe.errors import EXIT_USAGE
from kvmprobe.lab import run
from tests.conftest import kvmprobe


def _parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    return parser.parse_args(["run", *arguments])


@pytest.mark.parametrize(
    ("arguments", "names", "probe"),
    [
        ("", [], []),
        ("bookworm -q trixie", ["bookworm", "trixie"], []),
        ("--", [], []),
        ("-q -- -v --bogus x", [], ["-v", "--bogus", "x"]),
        ("bookworm -- --", ["bookworm"], ["--"]),
    ],
)
def test_what_follows_two_dashes_is_the_guests(arguments: str, names: list[str], probe: list[str]) -> None:
    options = _parse(*arguments.split())
    assert (options.kernels, options.probe_arguments) == (names, probe)


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "boot",
        "run --typo",
        "run bookworm --typo trixie",
        "run potato",
        "run --kernel x",
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
    assert run.worst(statuses) == worst
