"""The source holds to its rules: ruff, mypy (strict), one direction of imports, documentation that agrees."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kvmprobe.formats import text, watched
from kvmprobe.judge import judge
from kvmprobe.reasons import EXIT_STATUS, REASONS
from tests.conftest import EVIDENCE, PROJECT

SOURCES = sorted((PROJECT / "kvmprobe").rglob("*.py"))

# Who may import whom: a module of a layer imports from its own layer and from those below it.
LAYERS = (
    {"errors", "shape", "schema", "evidence", "guard", "programs", "chain", "libraries", "replace", "durations"},
    {"registers", "files", "reasons"},
    {"msr", "cpuid", "cpus", "modules", "modprobe", "reload", "processes", "devices", "klog", "kvm", "guest", "judge"},
    {"probe", "load", "formats", "output", "digest"},
    {"observe", "report"},
    {"trace", "watch", "soak", "compare", "summary"},
    {"lab", "commands"},
    {"cli"},
    {"__main__"},
)


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)],
    ids=["ruff check", "ruff format", "mypy"],
)
def test_linters(command: tuple[str, ...]) -> None:
    if importlib.util.find_spec(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (pip install kvmprobe[test])")
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, cwd=PROJECT, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_imports_go_one_way(path: Path) -> None:
    own = _layer(path.relative_to(PROJECT / "kvmprobe").parts[0].removesuffix(".py"))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("kvmprobe"):
            names = [node.module.split(".")[1]] if "." in node.module else [alias.name for alias in node.names]
            for name in names:
                if name not in ("TYPE_CHECKING", "__version__"):
                    assert _layer(name) <= own, f"{path.name} imports {name}"


def _layer(name: str) -> int:
    return next((index for index, layer in enumerate(LAYERS) if name in layer), 0 if name == "__init__" else -1)


def test_every_module_has_its_layer() -> None:
    names = {path.relative_to(PROJECT / "kvmprobe").parts[0].removesuffix(".py") for path in SOURCES}
    assert names - {"__init__"} == set().union(*LAYERS)


@pytest.mark.parametrize(("library", "room"), [("pyudev", "devices.py"), ("ptrace", "tracer.py")])
def test_a_library_has_one_room(library: str, room: str) -> None:
    imports = re.compile(rf"^\s*(import|from) {library}\b", re.MULTILINE)
    assert {path.name for path in SOURCES if imports.search(path.read_text())} == {room}


def test_no_request_number_outside_kvm_py() -> None:
    users = {path.name for path in SOURCES if "0xAE" in path.read_text() or "libc.ioctl(" in path.read_text()}
    assert users == {"kvm.py"}


def test_files_are_small() -> None:
    assert {path.name: lines for path in SOURCES if (lines := len(path.read_text().splitlines())) > 320} == {}


def test_the_readme_has_the_table_of_reasons() -> None:
    readme = (PROJECT / "README.md").read_text()
    rows = [
        f"| `{reason.name}` | {reason.status} ({EXIT_STATUS[reason.status]}) | {reason.when} |"
        for reason in REASONS.values()
    ]
    assert "\n".join(rows) in readme


def test_the_readme_shows_a_real_report() -> None:
    report = json.loads((EVIDENCE / "matrix/bookworm/epyc.json").read_text())
    assert text.render(judge(report["evidence"])).strip() in (PROJECT / "README.md").read_text()


def test_the_readme_shows_a_real_watch() -> None:
    report = json.loads((EVIDENCE / "watch/bookworm-qemu.json").read_text())
    _, *lines = watched.section(report["evidence"]["watch"])  # the first has the whole command
    assert "\n".join(lines) in (PROJECT / "README.md").read_text()


def test_no_address_of_a_registry() -> None:
    done = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=PROJECT, check=False)
    names = [name for name in done.stdout.split() if name != "LICENSE" and not name.endswith(".png")]
    identifiers = r"(?!json-schema\.org|www\.w3\.org/2001/XMLSchema|mirror/)"
    pattern = re.compile(r"(deb|pypi|registry)[a-z.-]*\.(org|com)|https?://" + identifiers)
    assert [name for name in names if pattern.search((PROJECT / name).read_text())] == []
