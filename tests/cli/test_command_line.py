"""Arguments, help, exit status: as a person or a script sees them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

import kvmprobe as package
from kvmprobe.cli import parser
from kvmprobe.model.verdict_status import EXIT_STATUS
from tests.helpers import help_pages
from tests.helpers.recorded_evidence import EVIDENCE, RECORDED, recorded_name
from tests.helpers.run_kvmprobe import kvmprobe

CONFIRMED = EVIDENCE / "matrix/bookworm/epyc.json"
COMMANDS = tuple(help_pages.commands())


@pytest.mark.parametrize(
    "arguments",
    [
        ("bogus",),
        ("--bogus",),
        ("check", "extra"),
        ("judge",),
        ("judge", "a", "b"),
        ("--format", "xml"),
        ("-v", "-q"),
        ("explain", "bogus"),
        ("--sysroot", "/nonexistent"),
        ("--output", "/nonexistent/report"),
        ("--output", "/"),
        ("--output", ""),
        ("--sysroot", "/tmp", "--load-kvm"),
        ("--passive", "--load-kvm"),
        ("--passive", "--nested"),
        ("watch", "--"),
        ("watch", "-p", "1", "--", "true"),
        ("judge", CONFIRMED, "--max-age", "26"),
        ("lab",),
        ("lab", "bogus"),
    ],
)
def test_wrong_arguments_are_64(arguments: tuple[str, ...]) -> None:
    done = kvmprobe(*arguments)
    assert done.returncode == 64
    assert done.stdout == ""
    assert "kvmprobe" in done.stderr


@pytest.mark.parametrize("command", ["check", "judge", "explain", "trace", "watch", "soak", "lab run"])
def test_an_unknown_option_is_reported_with_the_usage_of_the_command(command: str) -> None:
    needed = ["x"] if command == "judge" else []
    done = kvmprobe(*command.split(), *needed, "--bogus")
    assert done.returncode == 64
    assert done.stderr.startswith(f"usage: kvmprobe {command} ")
    assert f"{command}: unrecognized arguments: --bogus\n" in done.stderr
    assert done.stderr.endswith(f"'kvmprobe {command} --help' lists the arguments.\n")


def test_a_command_behind_its_options_is_reported() -> None:
    done = kvmprobe("--json", "judge", CONFIRMED)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.endswith("The command comes first: kvmprobe judge ...\n")


@pytest.mark.parametrize("command", [path for path in COMMANDS if path and path not in help_pages.groups()])
def test_no_option_may_be_abbreviated(command: str) -> None:
    """--load must not mean --load-kvm: every long option without its last letter is unknown."""
    options = {option for option in help_pages.commands()[command] if option.startswith("--")}
    beginnings = sorted({option[:-1] for option in options} - options)
    assert len(beginnings) == len(options) or command.startswith("lab ")  # --cpu and --cpus, for instance
    needed = {"judge": ["x"], "compare": ["x", "y"], "summary": ["x"]}.get(command, [])
    done = kvmprobe(*command.split(), *needed, *beginnings)
    assert (done.returncode, done.stdout) == (64, "")
    assert f"{command}: unrecognized arguments: {' '.join(beginnings)}\n" in done.stderr


def test_an_abbreviated_format_is_not_an_agents() -> None:
    """Else the complaint would go to standard output, as Nagios reads it."""
    done = kvmprobe("judge", CONFIRMED, "--form", "nagios")
    assert (done.returncode, done.stdout) == (64, "")
    assert "unrecognized arguments: --form nagios" in done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), *((*path.split(), "--help") for path in COMMANDS if path)])
def test_help_goes_to_standard_output_and_fits_80_columns(arguments: tuple[str, ...]) -> None:
    done = kvmprobe(*arguments, env={**os.environ, "COLUMNS": "80"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: kvmprobe")
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []


def test_the_table_has_every_command() -> None:
    assert set(parser.COMMANDS) == {path.split()[0] for path in COMMANDS if path}
    shown = kvmprobe("--help").stdout
    for name, text in parser.COMMANDS.items():
        assert re.search(rf"^    {name} +{re.escape(text)}$", shown, re.MULTILINE)


@pytest.mark.parametrize("path", ["", "judge", "lab run"])
def test_help_is_a_command_too(path: str) -> None:
    assert kvmprobe("help", *path.split()).stdout == kvmprobe(*path.split(), "--help").stdout


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version(option: str) -> None:
    done = kvmprobe(option)
    assert (done.returncode, done.stdout) == (0, f"kvmprobe {package.__version__}\n")


def test_the_default_command_is_check(host_report: Any) -> None:
    reports = [json.loads(kvmprobe(*arguments, "--json").stdout) for arguments in ((), ("check",))]
    assert reports[0]["verdict"] == reports[1]["verdict"] == host_report["verdict"]


@pytest.mark.parametrize("path", RECORDED, ids=recorded_name)
def test_the_exit_status_is_that_of_the_verdict(path: Path) -> None:
    verdict = json.loads(path.read_text())["verdict"]
    done = kvmprobe("judge", "-q", path)
    assert done.returncode == EXIT_STATUS[verdict["status"]]
    assert done.stdout.startswith(f"{verdict['status'].upper()} ")
