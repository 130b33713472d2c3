"""scripts/probe on hosts where packages can be had from Debian, from PyPI, or not at all. apt, pip and Python are fakes
in PATH; kvmprobe is real."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.recorded_evidence import EVIDENCE
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe

CONFIRMED = EVIDENCE / "matrix/bookworm/epyc.json"
FAILED = EVIDENCE / "matrix/bookworm/no-svm.json"
_PROGRAMS = "bash basename cat cksum cp dirname env grep mkdir mktemp rm sh touch".split()

# Without site-packages it lacks pyudev and ptrace, until a package manager has made the file "installed".
_PYTHON = f"""#!/bin/sh
case "$1 $2" in
"-m venv") echo "venv $3" >>$HOST/log; test -e $HOST/venv || exit 1
  mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; exit 0 ;;
"-m pip") shift 2; echo "pip $*" >>$HOST/log; test -e $HOST/pypi || exit 1; touch $HOST/installed; exit 0 ;;
esac
if test -e $HOST/installed; then exec {sys.executable} "$@"; else exec {sys.executable} -S "$@"; fi
"""
_APT = """#!/bin/sh
echo "apt-get $*" >>$HOST/log
test -e $HOST/debian || exit 100
touch $HOST/installed
"""
_FAKES = {"python3": _PYTHON, "apt-get": _APT, "dpkg-query": "#!/bin/sh\nexit 1\n", "id": "#!/bin/sh\necho $USER_ID\n"}


class Host:
    """A checkout of its own, and a PATH with few programs. `has`: of venv, pypi and debian, those that work."""

    def __init__(self, folder: Path, *has: str) -> None:
        self.folder = folder
        self.checkout = folder / "check out"
        (self.checkout / "scripts").mkdir(parents=True)
        for name in ("probe", "lib.sh"):
            shutil.copy(PROJECT / "scripts" / name, self.checkout / "scripts" / name)
        shutil.copytree(PROJECT / "kvmprobe", self.checkout / "kvmprobe", ignore=shutil.ignore_patterns("__pycache__"))
        self.programs = folder / "bin"
        self.programs.mkdir()
        for name in _PROGRAMS:
            (self.programs / name).symlink_to(shutil.which(name) or name)
        for name, text in _FAKES.items():
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o755)
        for name in has:
            (folder / name).touch()

    def probe(self, *arguments: str | Path, user: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Runs scripts/probe."""
        done = subprocess.run(
            [self.checkout / "scripts/probe", *arguments],
            capture_output=True,
            text=True,
            cwd=cwd or self.folder,
            env={"PATH": str(self.programs), "HOST": str(self.folder), "USER_ID": str(user), "LANG": "C.UTF-8"},
            timeout=DEADLINE_S,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def tried(self) -> list[str]:
        """The package managers that were run since the last call, and what for."""
        log = self.folder / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


_INSTALL = "apt-get install -y -q --no-install-recommends python3"


@pytest.mark.parametrize(("report", "status"), [(CONFIRMED, 0), (FAILED, 1)])
@pytest.mark.parametrize("has", [(), ("venv",)], ids=["no venv", "no pip"])
def test_without_any_package_the_standard_library_is_enough(
    has: tuple[str, ...], report: Path, status: int, tmp_path: Path
) -> None:
    host = Host(tmp_path, *has)
    done = host.probe("judge", "-q", report)
    assert (done.returncode, done.stdout) == (status, kvmprobe("judge", "-q", report).stdout)
    assert "running without pyudev ptrace" in done.stderr
    tried = host.tried()
    assert f"{_INSTALL} kmod python3-pyudev python3-ptrace" in tried
    assert f"{_INSTALL} python3-pyudev" in tried
    assert tried[-1].startswith("pip" if has else "venv")
    done = host.probe("judge", "-q", report)
    assert (done.returncode, done.stderr) == (status, "")
    assert host.tried() == []  # once is enough


def test_this_host_is_probed_without_any_package(tmp_path: Path) -> None:
    """A check that takes evidence, and warns that the uevents are missing."""
    done = Host(tmp_path).probe("-q", "--no-load")
    assert done.returncode in (0, 1, 3, 4)
    assert done.stdout != ""


def test_debians_packages_come_first(tmp_path: Path) -> None:
    host = Host(tmp_path, "debian", "venv", "pypi")
    done = host.probe("judge", "-q", CONFIRMED)
    assert (done.returncode, done.stdout[:9]) == (0, "CONFIRMED")
    assert host.tried() == [f"{_INSTALL} kmod python3-pyudev python3-ptrace"]
    assert not (host.checkout / ".venv").exists()


def test_pypi_serves_where_debians_packages_cannot_be_had(tmp_path: Path) -> None:
    host = Host(tmp_path, "venv", "pypi")
    done = host.probe("judge", "-q", CONFIRMED)
    assert (done.returncode, done.stdout[:9]) == (0, "CONFIRMED")
    assert "running without" not in done.stderr
    assert host.tried()[-1].endswith(" pyudev python-ptrace")
    assert (host.checkout / ".venv/bin/python").exists()


def test_an_ordinary_user_installs_no_package_of_debian(tmp_path: Path) -> None:
    host = Host(tmp_path, "debian")
    done = host.probe("judge", "-q", CONFIRMED, user=1000)
    assert (done.returncode, done.stdout[:9]) == (0, "CONFIRMED")
    assert host.tried() == [f"venv {host.checkout}/.venv"]


def test_another_user_tries_again(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.probe("judge", "-q", CONFIRMED, user=1000)
    (tmp_path / "debian").touch()
    host.tried()
    host.probe("judge", "-q", CONFIRMED, user=0)
    assert host.tried() == [f"{_INSTALL} kmod python3-pyudev python3-ptrace"]


def test_nothing_is_installed_where_nothing_is_missing(tmp_path: Path) -> None:
    host = Host(tmp_path, "installed")
    done = host.probe("judge", "-q", CONFIRMED)
    assert (done.returncode, done.stderr, host.tried()) == (0, "", [])


@pytest.mark.parametrize("old", [None, "#!/bin/sh\nexit 1\n"], ids=["none", "too old"])
def test_without_a_python_the_exit_status_is_no_verdict(old: str | None, tmp_path: Path) -> None:
    host = Host(tmp_path)
    (host.programs / "python3").unlink()
    if old:
        (host.programs / "python3").write_text(old)
        (host.programs / "python3").chmod(0o755)
    done = host.probe("judge", "-q", FAILED)
    assert (done.returncode, done.stdout) == (70, "")
    assert done.stderr.endswith("probe: no Python of 3.9 or later: apt-get install python3\n")


@pytest.mark.parametrize("user", [0, 1000])
def test_without_the_packages_of_the_lab_the_exit_status_is_no_verdict(user: int, tmp_path: Path) -> None:
    done = Host(tmp_path).probe("--lab", user=user)
    assert (done.returncode, done.stdout) == (70, "")
    assert "qemu-system-x86" in done.stderr


def test_modules_in_the_current_folder_are_not_imported(tmp_path: Path) -> None:
    """Root may stand in anybody's folder."""
    host = Host(tmp_path, "installed")
    foreign = tmp_path / "foreign"
    for name in ("kvmprobe", "pyudev", "ptrace"):
        (foreign / name).mkdir(parents=True)
        (foreign / name / "__init__.py").write_text("raise SystemExit(99)")
    (foreign / "argparse.py").write_text("raise SystemExit(99)")
    done = host.probe("judge", "-q", CONFIRMED, cwd=foreign)
    assert (done.returncode, done.stdout[:9]) == (0, "CONFIRMED")


def test_the_scripts_have_no_error_that_bash_finds() -> None:
    for name in ("probe", "lib.sh"):
        subprocess.run(["bash", "-n", PROJECT / "scripts" / name], check=True, env=dict(os.environ))
