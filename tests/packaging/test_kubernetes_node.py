"""node.py, which the DaemonSet's containers run: alone, and in containers that runc makes from the manifest."""

from __future__ import annotations

import contextlib
import datetime
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import container, manifests
from tests.helpers import nfd_rules as reader
from tests.helpers.run_kvmprobe import DEADLINE_S

NODE = manifests.FOLDER / "node.py"
VERDICT = "feature.node.kubernetes.io/kvmprobe.verdict"


def until(what: Callable[[], Any]) -> Any:
    """Waits until `what` returns something true, and returns that."""
    ends = time.monotonic() + DEADLINE_S
    while not (found := what()):
        assert time.monotonic() < ends, "deadline"
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def running(*command: str | Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*map(str, command)], **pipes, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def environment(folder: Path, **more: str) -> dict[str, str]:
    names = {"PROGRAM": folder / "program.py", "FEATURES": folder / "features", "PERIOD": "1"}
    return {**{f"KVMPROBE_{name}": str(value) for name, value in names.items()}, **more}


def node(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-B", str(NODE), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False, env=variables)
    assert "Traceback" not in done.stderr
    return done


# In place of kvmprobe: it records its run, and ends as a real one only would with a defect.
_PROGRAM = """
import os, signal, sys, time
rights = [line.split()[1] for line in open("/proc/self/status") if line.startswith(("Cap", "NoNewPrivs"))]
with open({folder!r} + "/rights", "w") as file:
    print(*rights, file=file)
with open({folder!r} + "/runs", "a") as file:
    print(sys.argv[1:], sys.flags.isolated, signal.pthread_sigmask(signal.SIG_BLOCK, ()), sorted(os.environ), file=file)
{ending}
"""


def pretend(folder: Path, ending: str) -> Path:
    """Writes a program that adds a line to the returned file, and then runs the code `ending`."""
    (folder / "program.py").write_text(_PROGRAM.format(folder=str(folder), ending=ending))
    return folder / "runs"


@pytest.mark.parametrize("ending", ["", "sys.exit(1)", "sys.exit(70)", "os.kill(os.getpid(), signal.SIGSEGV)"])
def test_it_continues_after_any_end_of_a_check(tmp_path: Path, ending: str) -> None:
    runs = pretend(tmp_path, ending)
    with running(sys.executable, "-I", NODE, "run", env=environment(tmp_path)) as process:
        until(lambda: runs.exists() and len(runs.read_text().splitlines()) >= 2)
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    wanted = ["check", "-q", "--no-load", "--also", f"nfd:{tmp_path / 'features'}"]
    # Isolated, no signal blocked (the parent blocks some), nothing of the environment.
    assert set(runs.read_text().splitlines()) == {f"{wanted} 1 set() ['LC_ALL']"}


def test_what_is_required_reaches_kvmprobe(tmp_path: Path) -> None:
    runs = pretend(tmp_path, "")
    with running(sys.executable, "-I", NODE, "run", env=environment(tmp_path, KVMPROBE_REQUIRE="iommu,cpus>=64")):
        until(lambda: runs.exists() and runs.read_text())
    assert "'--require', 'iommu,cpus>=64']" in runs.read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to drop")
def test_it_drops_unneeded_capabilities(tmp_path: Path) -> None:
    """In itself and in kvmprobe, which runs as root and gets the bounding set."""
    runs = pretend(tmp_path, "")
    with running(sys.executable, "-I", NODE, "run", env=environment(tmp_path)) as process:
        until(runs.exists)
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.terminate()
        _, messages = process.communicate()
    assert messages == ""
    none, rawio = f"{0:016x}", f"{1 << 17:016x}"
    inherited, permitted, effective, bounding, ambient, no_new = (tmp_path / "rights").read_text().split()
    assert (permitted, effective, bounding, ambient, no_new) == (rawio, rawio, rawio, none, "1")
    assert inherited == none
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert f"{name}:\t{rawio}\n" in status


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_at_once(tmp_path: Path, signum: signal.Signals) -> None:
    runs = pretend(tmp_path, "")
    with running(sys.executable, "-I", NODE, "run", env=environment(tmp_path, KVMPROBE_PERIOD="3600")) as process:
        until(runs.exists)
        process.send_signal(signum)
        assert process.wait(DEADLINE_S) == 0
    assert len(runs.read_text().splitlines()) == 1


def test_a_signal_reaches_a_running_check(tmp_path: Path) -> None:
    ended, ready = tmp_path / "ended", tmp_path / "ready"
    handle = f"signal.signal(15, lambda *_: (open({str(ended)!r}, 'w'), sys.exit(143)))"
    pretend(tmp_path, f"{handle}; open({str(ready)!r}, 'w'); time.sleep(3600)")
    with running(sys.executable, "-I", NODE, "run", env=environment(tmp_path)) as process:
        until(ready.exists)
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    assert ended.exists()


def test_a_check_that_ignores_the_signal_is_killed_within_the_grace_period(tmp_path: Path) -> None:
    deaf = f"signal.signal(15, signal.SIG_IGN); open({str(tmp_path / 'deaf')!r}, 'w'); time.sleep(3600)"
    runs = pretend(tmp_path, deaf)
    with running(sys.executable, "-I", NODE, "run", env=environment(tmp_path)) as process:
        until((tmp_path / "deaf").exists)
        process.terminate()
        assert process.wait(manifests.pod()["terminationGracePeriodSeconds"]) == 0
    assert len(runs.read_text().splitlines()) == 1


def test_alive(tmp_path: Path) -> None:
    variables = environment(tmp_path, KVMPROBE_PERIOD="3600")
    missing = node("alive", **variables)
    assert (missing.returncode, len(missing.stderr.splitlines())) == (1, 1)
    features = tmp_path / "features"
    features.touch()
    assert node("alive", **variables).returncode == 0
    for age, status in ((3600 + 600, 0), (3600 + 660, 1)):  # a period, and the longest check
        os.utime(features, (time.time() - age,) * 2)
        assert node("alive", **variables).returncode == status, age
    assert "more than" in node("alive", **variables).stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "status"),
    [
        ((), {}, 64),
        (("walk",), {}, 64),
        (("run", "run"), {}, 64),
        (("run",), {"KVMPROBE_PERIOD": ""}, 1),
        (("run",), {"KVMPROBE_PERIOD": "0"}, 1),
        (("run",), {"KVMPROBE_PERIOD": "-1"}, 1),
        (("run",), {"KVMPROBE_PERIOD": "1h"}, 1),
        (("run",), {"KVMPROBE_PERIOD": "1", "KVMPROBE_PROGRAM": "/x"}, 1),
        (("alive",), {"KVMPROBE_PERIOD": "1"}, 1),
        (("prepare",), {}, 1),
    ],
)
def test_an_error_is_one_line(arguments: tuple[str, ...], variables: dict[str, str], status: int) -> None:
    done = node(*arguments, **variables)
    assert (done.returncode, len(done.stderr.splitlines()), done.stdout) == (status, 1, "")
    assert done.stderr.startswith("node.py: ")


@pytest.mark.parametrize("data", [b"", b"kvmprobe", lzma.compress(b"kvmprobe" * 100)[:-20]])
def test_a_damaged_program_prevents_the_pod_from_starting(data: bytes, tmp_path: Path) -> None:
    shutil.copy(NODE, tmp_path)
    (tmp_path / "kvmprobe.pyz.xz").write_bytes(data)
    command = [sys.executable, "-I", str(tmp_path / "node.py"), "prepare"]
    variables = {"KVMPROBE_PROGRAM": str(tmp_path / "out")}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=DEADLINE_S, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr


# In containers


@pytest.fixture
def volumes(built: Path, tmp_path: Path) -> Mapping[str, Path]:
    """The volumes of the pod, with temporary folders in place of the host's."""
    folders = {name: tmp_path / name for name in ("config", "program", "features", "host")}
    for folder in folders.values():
        folder.mkdir()
    shutil.copy(NODE, folders["config"])
    (folders["config"] / "kvmprobe.pyz.xz").write_bytes(lzma.compress((built / "kvmprobe.pyz").read_bytes()))
    return {**folders, "devices": Path("/dev")}


@pytest.fixture
def contain(tmp_path: Path, volumes: Mapping[str, Path]) -> Iterator[Callable[..., Path]]:
    """A function that prepares one of the pod's containers, and returns the folder of its bundle."""
    missing = "no runc here" if not shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin") else None
    if missing and os.environ.get("KVMPROBE_REQUIRE_KERNELS"):
        pytest.fail(missing)
    if missing or os.geteuid() != 0:
        pytest.skip(missing or "only root can make such containers")
    made = []

    def make(name: str, **variables: str) -> Path:
        folder = container.bundle(tmp_path / f"container-{name}", manifests.containers()[name], volumes, variables)
        made.append(folder)
        return folder

    yield make
    for folder in made:
        command = [*container.runc(folder), "delete", "--force", container.name_of(folder)]
        subprocess.run(command, check=False, timeout=DEADLINE_S)


def run_command(folder: Path) -> list[str]:
    return [*container.runc(folder), "run", "--bundle", str(folder), container.name_of(folder)]


def test_the_pod_on_this_machine(contain: Callable[..., Path], volumes: Mapping[str, Path], host_report: Any) -> None:
    """Init container, container, feature file, SIGTERM: as a node's runtime does it."""
    prepare = subprocess.run(
        run_command(contain("prepare")), capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert prepare.returncode == 0, prepare.stderr
    assert "cannot run modprobe" in prepare.stderr  # the folder in place of the host has none
    folder = contain("kvmprobe")
    before = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    with running(*run_command(folder)) as process:
        features = volumes["features"] / "kvmprobe"
        until(features.exists)
        command = [*container.runc(folder), "exec", container.name_of(folder)]
        alive = subprocess.run(
            [*command, *manifests.containers()["kvmprobe"]["livenessProbe"]["exec"]["command"]],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert alive.returncode == 0, alive.stderr
        subprocess.run([*container.runc(folder), "kill", container.name_of(folder), "TERM"], check=True)
        assert process.wait(DEADLINE_S) == 0
        log, messages = process.communicate()
    assert features.stat().st_mode & 0o777 == 0o644
    assert os.listdir(volumes["features"]) == ["kvmprobe"]
    found = reader.read(features.read_bytes(), before)
    # The verdict of this machine; without msr a confirmed host is inconclusive.
    assert found.features[VERDICT] in (host_report["verdict"]["status"].replace(" ", "-"), "inconclusive")
    assert found.features[f"{VERDICT.rpartition('.')[0]}.reason"] in log
    assert len(log.splitlines()) == 2  # in the pod's log: the verdict, and what to do
    assert messages == ""
    (end,) = found.expiry
    expires = datetime.datetime.strptime(end, "%Y-%m-%dT%H:%M:%S%z") - datetime.timedelta(hours=26)
    assert before <= expires <= datetime.datetime.now(datetime.timezone.utc)


def test_the_container_has_only_the_rights_of_the_manifest(
    contain: Callable[..., Path], volumes: Mapping[str, Path], kvm_device: str
) -> None:
    """A program in place of kvmprobe can open /dev/kvm and write the features, and nothing else."""
    (volumes["program"] / "kvmprobe.pyz").write_text(_TRY)
    with running(*run_command(contain("kvmprobe"))):
        until((volumes["features"] / "tried").exists)
    tried = json.loads((volumes["features"] / "tried").read_text())
    assert tried == {
        "/dev/kvm": None,
        "/dev/x": "EROFS",
        "/x": "EROFS",
        "/config/x": "EROFS",
        "/opt/kvmprobe/x": "EROFS",
        "capabilities": 1 << 17,
    }


_TRY = """
import errno, json, os
def attempt(path):
    try:
        os.close(os.open(path, os.O_RDWR | (0 if path == "/dev/kvm" else os.O_CREAT)))
    except OSError as error:
        return errno.errorcode[error.errno]
paths = ("/dev/kvm", "/dev/x", "/x", "/config/x", "/opt/kvmprobe/x")
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
with open("/features.d/.tried", "w") as file:
    json.dump({**{path: attempt(path) for path in paths}, "capabilities": int(status["CapEff"], 16)}, file)
os.rename("/features.d/.tried", "/features.d/tried")
"""
