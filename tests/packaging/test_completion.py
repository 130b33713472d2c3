"""The completions in real shells: every command and option of --help, and the values that are known."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmprobe.formats import REPORT_FORMATS
from kvmprobe.judge.causes import CAUSES
from kvmprobe.judge.features.feature_table import FEATURES
from kvmprobe.judge.requirements.requirement_table import QUANTITIES, REQUIREMENTS
from kvmprobe.judge.sev import SEV_CAUSES
from kvmprobe.lab.scenarios import SCENARIOS
from kvmprobe.model.reasons import REASONS
from tests.helpers import help_pages, shells, written_share
from tests.helpers.shells import Shell

SHELLS = ("bash", "zsh", "fish")
NEEDED = {"bash": "/usr/share/bash-completion/bash_completion", "zsh": "/usr/bin/zsh", "fish": "/usr/bin/fish"}
_SVMDIS = {f"held-first,{row.name}" for row in SCENARIOS if row.name.startswith("svmdis")}

# Command lines, and the words that complete the last word.
SVM_NAMES = {name for name in (*REASONS, *CAUSES, *FEATURES) if name.startswith("svm-")}
LINES: dict[str, set[str]] = {
    "kvmprobe judge --format ": set(REPORT_FORMATS),
    "kvmprobe judge --format=js": {"json"},
    "kvmprobe --form": {"--format"},  # without a command: check
    "kvmprobe --json --form": {"--format"},
    "kvmprobe --format ": set(REPORT_FORMATS),
    "kvmprobe explain ": {*REASONS, *CAUSES, *SEV_CAUSES, *FEATURES, *REQUIREMENTS, *QUANTITIES},
    "kvmprobe explain svm-": SVM_NAMES,
    "kvmprobe judge sto": {"stored report.json", "stored.json"},
    "kvmprobe judge -o ne": {"new.json"},
    "kvmprobe compare stored.json sto": {"stored report.json", "stored.json"},
    "kvmprobe --sysroot ": {"folder"},
    "kvmprobe soak --cycles ": set(),
    "kvmprobe lab run trix": {"trixie", "trixie-backports"},
    "kvmprobe lab run bookworm --cpus 4 trix": {"trixie", "trixie-backports"},
    "kvmprobe summary --only svme-set-by-c": {"svme-set-by-create-vm"},
    "kvmprobe summary --only not-a": {"not-applicable"},
    "kvmprobe lab matrix --only held-first,svmdis": _SVMDIS,
    "kvmprobe lab matrix --kernels bookworm,bu": {"bookworm,bullseye"},
    "kvmprobe summary stored.json ne": {"new.json"},
    "kvmprobe watch --exit-status ": {"verdict", "command"},
    "kvmprobe watch --format=json -- kvmprobe explain svm-": SVM_NAMES,  # COMMAND's own
    "sudo kvmprobe explain svm-": SVM_NAMES,
    "sudo kvmprobe lab run --cpu X trix": {"trixie", "trixie-backports"},
}
LINES.update(
    {
        "kvmprobe judge --also ": {f"{name}:" for name in REPORT_FORMATS},
        "kvmprobe judge --also js": {"json:"},
        "kvmprobe judge --also json:ne": {"json:new.json"},
        "kvmprobe judge --also=json:ne": {"json:new.json"},
    }
)


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder share/ with the completions."""
    return written_share.write(tmp_path_factory.mktemp("prefix") / "share")


@pytest.fixture(scope="module", params=SHELLS)
def shell(request: pytest.FixtureRequest, share: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell in a folder with some files."""
    needed = NEEDED[request.param]
    if not os.path.exists(needed):
        why = f"{needed} is not installed"
        pytest.fail(why) if os.environ.get("KVMPROBE_REQUIRE_KERNELS") else pytest.skip(why)
    folder = tmp_path_factory.mktemp(request.param) / "work"
    (folder / "folder").mkdir(parents=True)
    for name in ("stored.json", "stored report.json", "new.json"):
        (folder / name).touch()
    started = shells.start(request.param, share, folder)
    yield started
    started.close()


@pytest.mark.parametrize("line", LINES)
def test_values(shell: Shell, line: str) -> None:
    option = line.split()[-1].split("=")[0] + "="  # some shells complete it with its value
    words = {word.removesuffix("/") for word in shell.complete(line)}
    found = {word.split("=", 1)[1] if word.startswith(option) else word for word in words}
    assert {word.rstrip("=") for word in found} == LINES[line]


def test_every_command(shell: Shell) -> None:
    for group, names in help_pages.groups().items():
        assert shell.complete(f"kvmprobe {group} ".replace("  ", " ")) == names


def test_every_option(shell: Shell) -> None:
    for path, options in help_pages.commands().items():
        offered = {word.rstrip("=") for word in shell.complete(f"kvmprobe {path} -".replace("  ", " "))} - {"--"}
        assert offered == options | (help_pages.commands()["check"] if not path else frozenset()), path


def test_a_process(shell: Shell) -> None:
    """A PID, less its last digit."""
    assert str(os.getpid()) in shell.complete(f"kvmprobe watch -p {os.getpid()}"[:-1])


def test_a_command_after_two_dashes(shell: Shell) -> None:
    program = str(Path(shutil.which("env") or "").resolve())
    assert program in shell.complete(f"kvmprobe watch -- {program[:-1]}")
