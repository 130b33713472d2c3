"""scripts/build: the same bytes everywhere, complete files, and a program that runs where nothing else is installed."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from kvmprobe import __version__
from tests.helpers.built_files import PINS
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe

WHEEL = f"kvmprobe-{__version__}-py3-none-any.whl"
NAMES = (WHEEL, "kvmprobe-maas.py", "kvmprobe.pyz")
GOOD = PROJECT / "tests/evidence/matrix/bookworm/epyc.json"
HELD = PROJECT / "tests/evidence/matrix/bookworm/held-first.json"
INCOMPLETE = """\
kvmprobe: the standard library of {0} is incomplete (python3-minimal?): import of json halted; None in sys.modules
  On Debian and Ubuntu: apt-get install python3
"""


def pyz(
    built: Path, *arguments: str | Path, python: str = "/usr/bin/python3", **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs kvmprobe.pyz like a host with nothing else installed: from / and without an environment."""
    done = subprocess.run(
        [python, "-I", str(built / "kvmprobe.pyz"), *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        timeout=DEADLINE_S,
        check=False,
        **{"cwd": "/", "env": {}, **options},
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    assert "internal error" not in done.stderr, done.stderr
    return done


def copy_of_the_checkout(folder: Path) -> Path:
    """A copy like an unpacked tarball: no git, other times, another umask."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, capture_output=True, text=True, cwd=PROJECT, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.copyfile(PROJECT / name, folder / name)
            (folder / name).chmod(0o700 if os.access(PROJECT / name, os.X_OK) else 0o600)
            os.utime(folder / name, (1, 1))
    return folder


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Modes and bytes of all files below `folder`, by their paths."""
    paths = filter(Path.is_file, folder.rglob("*"))
    return {str(path.relative_to(folder)): (path.stat().st_mode & 0o7777, path.read_bytes()) for path in paths}


def test_the_same_bytes_from_another_folder_and_user(built: Path, tmp_path: Path) -> None:
    """With scripts/build itself, which sets up what it needs."""
    copy = copy_of_the_checkout(tmp_path / "another folder")
    home = tmp_path / "home"
    home.mkdir()
    (home / ".pydistutils.cfg").write_text("[bdist_wheel]\nbuild_number = 7\n")
    (copy / "kvmprobe/__pycache__").mkdir()
    (copy / "kvmprobe/__pycache__/left.cpython-39.pyc").write_bytes(b"left")
    env = {**os.environ, "TZ": "Pacific/Kiritimati", "LC_ALL": "C", "HOME": str(home), "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        ["sh", "-c", f"umask 077; exec '{copy}/scripts/build'"],
        capture_output=True,
        text=True,
        cwd="/",
        env=env,
        timeout=2 * DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert contents(copy / "dist") == contents(built)
    assert sorted(path.name for path in built.iterdir()) == sorted([*NAMES, "share"])
    summed = subprocess.run(["sha256sum", "-c"], input=done.stdout, capture_output=True, text=True, check=False)
    assert summed.stdout.count(": OK") == 3
    assert not (copy / "build/lib").exists()  # setuptools would leave it behind and use it again


def test_the_same_share_in_the_folder_the_wheel_and_the_pyz(built: Path) -> None:
    """The manual page and the completions, readable by all users."""
    paths = [path.relative_to(built) for path in (built / "share").rglob("*") if path.is_file()]
    assert Path("share/man/man8/kvmprobe.8") in paths
    data = f"{WHEEL.removesuffix('-py3-none-any.whl')}.data/data"
    with zipfile.ZipFile(built / WHEEL) as wheel, zipfile.ZipFile(built / "kvmprobe.pyz") as archive:
        for path in paths:
            assert (built / path).stat().st_mode & 0o7777 == 0o644
            assert (built / path).read_bytes() == wheel.read(f"{data}/{path}") == archive.read(str(path))
        assert {name for name in archive.namelist() if name.startswith("share/")} == set(map(str, paths))


def test_one_command_takes_share_out_of_the_pyz(built: Path, tmp_path: Path) -> None:
    """The command of the README, where the file alone is at hand."""
    if shutil.which("unzip") is None:
        why = "unzip is not installed"
        pytest.fail(why) if os.environ.get("KVMPROBE_REQUIRE_KERNELS") else pytest.skip(why)
    command = ["unzip", "-q", str(built / "kvmprobe.pyz"), "share/*", "-d", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert contents(tmp_path / "share") == contents(built / "share")


def test_nothing_else_below_share_is_touched(tmp_path: Path) -> None:
    """DIR may be a prefix that is in use."""
    (tmp_path / "share/man").mkdir(parents=True)
    (tmp_path / "share/man/other").touch()
    command = [sys.executable, str(PROJECT / "scripts/distribution"), str(tmp_path)]
    subprocess.run(command, capture_output=True, check=True, timeout=DEADLINE_S)
    assert (tmp_path / "share/man/other").exists()


def test_source_date_epoch_sets_the_time(built: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(PROJECT / "scripts/distribution"), str(tmp_path)]
    env = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    subprocess.run(command, env=env, capture_output=True, check=True, timeout=DEADLINE_S)
    for name in (WHEEL, "kvmprobe.pyz"):
        with zipfile.ZipFile(tmp_path / name) as given, zipfile.ZipFile(built / name) as usual:
            assert {info.date_time for info in given.infolist()} == {(2023, 11, 14, 22, 13, 20)}
            assert {info.date_time for info in usual.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize(
    ("env", "error"),
    [
        ({"SOURCE_DATE_EPOCH": "soon"}, "build: SOURCE_DATE_EPOCH=soon: is not a time in seconds"),
        ({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/nowhere"}, "build: pip failed:\n"),
    ],
)
def test_a_failed_build(env: dict[str, str], error: str, tmp_path: Path) -> None:
    """It reports why, and leaves nothing behind."""
    command = [sys.executable, str(PROJECT / "scripts/distribution"), str(tmp_path)]
    done = subprocess.run(
        command, env={**os.environ, **env}, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(error)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("python", "error"),
    [
        ("/nowhere/python3", "cannot be run: No such file or directory"),
        ("/bin/true", "is no Python"),
        ("/bin/false", "failed: "),
        ("old", "is cpython 3.8, CPython 3.9 or later is needed"),
    ],
)
def test_a_compiler_that_is_none(python: str, error: str, tmp_path: Path) -> None:
    if python == "old":
        python = str(tmp_path / "python3.8")
        Path(python).write_text("#!/bin/sh\necho '[\"cpython\", [3, 8], 3413, {}]'\n")
        Path(python).chmod(0o755)
    command = [sys.executable, str(PROJECT / "scripts/distribution"), "--compile", python, str(tmp_path / "to")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stderr) == (1, f"build: --compile {python}: {error}\n")
    assert list((tmp_path / "to").iterdir()) == []


def _copied(source: Path, target: Path, name: Callable[[str], str | None]) -> Path:
    """A folder with a copy of kvmprobe.pyz whose files have other names; None: it is left out."""
    target.mkdir()
    with zipfile.ZipFile(source / "kvmprobe.pyz") as old, zipfile.ZipFile(target / "kvmprobe.pyz", "w") as new:
        for info in old.infolist():
            renamed = name(info.filename)
            if renamed is not None:
                new.writestr(renamed, old.read(info))
    return target


def _without_sources(name: str) -> str | None:
    is_source = name.endswith((".py", ".json", ".js", ".css")) and name != "__main__.py"
    return None if is_source and not name.startswith("code/") else name


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="--compile takes CPython's code")
def test_compiled_modules_serve_their_python_and_the_sources_all_others(
    built: Path, compiled: Path, tmp_path: Path
) -> None:
    """The same bytes in each build; complete without the sources; no hindrance for another version."""
    again = tmp_path / "again"
    command = [sys.executable, str(PROJECT / "scripts/distribution"), "--compile", sys.executable, str(again)]
    subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": "7"})
    assert contents(again) == contents(compiled)
    assert (compiled / "kvmprobe-maas.py").read_bytes() == (built / "kvmprobe-maas.py").read_bytes()
    for folder in (
        compiled,
        _copied(compiled, tmp_path / "no-sources", _without_sources),
        _copied(compiled, tmp_path / "another", lambda name: re.sub("^code/[0-9]+/", "code/1/", name)),
    ):
        for arguments in (
            ["judge", "--format", "html", GOOD],
            ["judge", "--json", HELD],
            ["explain", "firmware-disabled"],
        ):
            done, expected = (pyz(each, *arguments, python=sys.executable) for each in (folder, built))
            assert (done.returncode, done.stdout) == (expected.returncode, expected.stdout), (folder, done.stderr)


@pytest.mark.parametrize("arguments", [["--help"], ["a", "b"], ["--compile"], ["--compile", "a", "b", "c"]])
def test_wrong_arguments(arguments: Sequence[str]) -> None:
    done = subprocess.run([PROJECT / "scripts/build", *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (64, "build: usage: scripts/build [--compile PYTHON ...] [DIR]\n")


@pytest.mark.parametrize("name", [WHEEL, "kvmprobe.pyz"])
def test_the_files_inside(name: str, built: Path) -> None:
    with zipfile.ZipFile(built / name) as archive:
        assert archive.testzip() is None
        infos = {info.filename: info for info in archive.infolist()}
        everything = b"".join(map(archive.read, infos))
    assert {info.external_attr >> 16 for info in infos.values()} == {0o100644}
    assert {info.compress_type for info in infos.values()} == {zipfile.ZIP_STORED}
    assert {
        "kvmprobe/model/report.schema.json",
        "kvmprobe/model/compare.schema.json",
        "kvmprobe/py.typed",
    } <= infos.keys()
    assert not [name for name in infos if "__pycache__" in name or name.endswith(".pyc")]
    for of_this_machine in (str(PROJECT), str(built), socket.gethostname() if len(socket.gethostname()) > 5 else None):
        assert of_this_machine is None or of_this_machine.encode() not in everything


def test_the_licences_are_in_the_pyz(built: Path) -> None:
    with zipfile.ZipFile(built / "kvmprobe.pyz") as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
        folders = {name.split("/")[0] for name in archive.namelist()} - {"__main__.py"}
    expected = {
        f"kvmprobe-{__version__}": (f"Version: {__version__}\n", "GNU GENERAL PUBLIC LICENSE"),
        f"pyudev-{PINS['pyudev']}": (f"Version: {PINS['pyudev']}\n", "GNU LESSER GENERAL PUBLIC LICENSE"),
        f"python_ptrace-{PINS['python-ptrace']}": ("License: GNU GPL v2\n", "GNU GENERAL PUBLIC LICENSE"),
    }
    assert folders == {"kvmprobe", "pyudev", "ptrace", "share", *(f"{name}.dist-info" for name in expected)}
    for name, words in expected.items():
        together = "".join(text for path, text in texts.items() if path.startswith(name))
        assert all(word in together for word in words), name


def test_the_same_verdict_as_from_the_checkout(built: Path, host_report: Any) -> None:
    report = json.loads(pyz(built, "check", "--json").stdout)
    assert report["verdict"] == host_report["verdict"]
    assert [(check["id"], check["status"]) for check in report["checks"]] == [
        (check["id"], check["status"]) for check in host_report["checks"]
    ]
    if host_report["evidence"]["uevents"]["source"]:
        assert report["evidence"]["uevents"]["source"] == f"pyudev {PINS['pyudev']}, kernel monitor"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--help"],
        ["explain", "svmdis"],
        ["explain", "firmware-disabled"],
        ["judge", GOOD],
        ["judge", HELD, "--format", "junit"],
        ["judge", "/nowhere"],
        ["compare", GOOD, HELD],
        ["check", "--bad"],
    ],
    ids=lambda arguments: " ".join(Path(word).name for word in arguments),
)
def test_commands_without_kvm(arguments: Sequence[str | Path], built: Path) -> None:
    done, wanted = pyz(built, *arguments), kvmprobe(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (wanted.returncode, wanted.stdout, wanted.stderr)


@pytest.mark.parametrize(
    "arguments",
    [["watch"], ["watch", "--", "true"], ["soak", "--kill", "--cycles", "3"], ["trace"], ["trace", "--mount"]],
    ids=" ".join,
)
def test_commands_with_kvm(arguments: Sequence[str], built: Path, kvm_device: str, tmp_path: Path) -> None:
    """Children, late imports and the schema work from the file as from the checkout."""
    reports: list[Any] = []
    for run in (lambda *words: pyz(built, *words), kvmprobe):
        name, *rest = arguments
        done = run(name, "--json", "-o", str(tmp_path / "report.json"), *rest)
        if done.returncode == 3:
            reports.append(done.stderr)  # tracing needs rights
        else:
            report = json.loads((tmp_path / "report.json").read_text())
            reports.append([done.returncode, report["verdict"]["reason"], [check["id"] for check in report["checks"]]])
    assert reports[0] == reports[1]


def test_the_lab_is_not_inside(built: Path) -> None:
    done = pyz(built, "lab", "run")
    assert done.returncode == 64
    assert done.stderr.startswith("kvmprobe: lab is not in kvmprobe.pyz")


def test_it_runs_as_a_program_and_from_a_descriptor(built: Path, tmp_path: Path) -> None:
    """A module in the current folder or in PYTHONPATH is not imported."""
    shutil.copy2(built / "kvmprobe.pyz", tmp_path / "probe")
    (tmp_path / "json.py").write_text("raise SystemExit(99)\n")
    env = {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([tmp_path / "probe", "--version"], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"kvmprobe {__version__}\n")
    with (tmp_path / "probe").open("rb") as file:
        path = f"/proc/self/fd/{file.fileno()}"
        command = ["/usr/bin/python3", "-I", path, "judge", "-q", str(GOOD)]
        done = subprocess.run(command, capture_output=True, text=True, pass_fds=[file.fileno()])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("sys.version_info = (3, 8, 1)", "kvmprobe: Python 3.9 or later is needed, and {0} is 3.8\n"),
        ("sys.modules['json'] = None", INCOMPLETE),
    ],
    ids=["too old", "incomplete"],
)
def test_a_python_that_cannot_run_it(python: str, message: str, built: Path) -> None:
    """It could not be found out: exit status 3. tests/lab runs Python 2.7 and python3-minimal themselves."""
    code = f"import runpy, sys; {python}; runpy.run_path({str(built / 'kvmprobe.pyz')!r})"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", message.format(sys.executable))


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors(closed: str, built: Path, tmp_path: Path) -> None:
    """kvmprobe.pyz, which it opens, must not become descriptor 0, 1 or 2."""
    command = f"/usr/bin/python3 -I {built}/kvmprobe.pyz judge -o {tmp_path}/report --json {GOOD} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "report").read_text())["verdict"]["status"] == "confirmed"


def test_an_update_does_not_disturb_a_running_kvmprobe(built: Path, tmp_path: Path) -> None:
    """A new file replaces the running one, which still imports its last modules from the old file."""
    program = tmp_path / "kvmprobe.pyz"
    shutil.copy2(built / "kvmprobe.pyz", program)
    started, replaced = tmp_path / "started", tmp_path / "replaced"
    waits = f"touch {started}; while ! [ -e {replaced} ]; do sleep 0.05; done"
    command = ["/usr/bin/python3", "-I", str(program), "watch", "--json", "--no-load", "--", "sh", "-c", waits]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        ends = time.monotonic() + DEADLINE_S
        while not started.exists() and process.poll() is None and time.monotonic() < ends:
            time.sleep(0.05)
        new = tmp_path / "new"
        new.write_bytes(b"not what it was" * 100000)
        new.replace(program)
        replaced.touch()
        stdout, stderr = process.communicate(timeout=DEADLINE_S)
    assert json.loads(stdout)["verdict"], stderr


def installed(python: str, wheel: str, folder: Path) -> Path:
    """A virtual environment in `folder` with `wheel`, a path and perhaps [extras]."""
    try:
        subprocess.run([python, "-c", "import ensurepip"], check=True, capture_output=True, timeout=DEADLINE_S)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"there is no {python} with venv")
    subprocess.run([python, "-m", "venv", folder], check=True, timeout=DEADLINE_S)
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def in_environment(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the kvmprobe of a virtual environment."""
    command = [str(folder / "bin/kvmprobe"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=DEADLINE_S, check=False)


@pytest.mark.parametrize("python", [sys.executable, "python3.9"], ids=["this", "3.9"])
def test_the_wheel_works_without_its_extras(python: str, built: Path, tmp_path: Path) -> None:
    folder = installed(python, str(built / WHEEL), tmp_path)
    (site,) = folder.glob("lib/python3*/site-packages")
    assert not {path.name for path in site.iterdir()} & {"pyudev", "ptrace"}
    for arguments in (["--version"], ["judge", GOOD], ["lab", "--help"], ["watch", "--help"]):
        done = in_environment(folder, *arguments)
        assert (done.returncode, done.stderr) == (0, ""), arguments
    checked, wanted = in_environment(folder, "-q"), kvmprobe("-q")
    assert checked.returncode == wanted.returncode
    assert checked.stdout.split(":")[0] == wanted.stdout.split(":")[0]  # verdict and reason
    assert "Traceback" not in checked.stderr
    (metadata,) = site.glob("kvmprobe-*.dist-info")
    assert importlib.metadata.Distribution.at(metadata).metadata["License-File"] == "LICENSE"
    for path in (path for path in (built / "share").rglob("*") if path.is_file()):
        assert (folder / path.relative_to(built)).read_bytes() == path.read_bytes()


def test_the_wheel_with_its_extras_has_the_libraries(built: Path, tmp_path: Path) -> None:
    folder = installed(sys.executable, f"{built / WHEEL}[all]", tmp_path)
    (site,) = folder.glob("lib/python3*/site-packages")
    assert {path.name for path in site.iterdir()} >= {"pyudev", "ptrace"}


def test_shtab_is_pinned_once() -> None:
    """pip builds the wheel with the version that scripts/build uses."""
    project = (PROJECT / "pyproject.toml").read_text()
    assert re.findall(r'"shtab([^"]*)"', project) == [f"=={PINS['shtab']}"] * 2
