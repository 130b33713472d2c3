"""A kernel under test is hostile: what it can read and write of this machine, and what of it is believed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmprobe.lab import keeper, keeper_process, payload, qemu, share_quota
from kvmprobe.lab.boot_result import LOST
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.qemu import Boot
from tests.helpers.waiting import wait_until

# Process 1 of the guest has the share. The script leaves links, pipes and devices there in place of the results, and
# prints what it can read of the host. In the end it fills the share with files that have no name any more.
_ATTACK = """
cd /proc/1/root/results || exit 1
rm -f stderr notes mark
ln -s {secret} stderr
ln -s /proc/self/environ notes
mknod mark p
mkdir -p {deep}
echo "tags: $(cat /sys/bus/virtio/drivers/9pnet_virtio/*/mount_tag | tr '\\0' ' ')"
for file in {secret} {private} /etc/shadow /proc/1/root/ro/*/..{secret} /proc/1/root/ro/*/../../../etc/shadow; do
    echo "read: $(cat $file 2>&1)"
done
echo "shared: $(cat {public})"
echo x >{public} && echo "changed: $(cat {public})"
sync
exec 3>a 4>b 5>c
rm a b c
for fd in 3 4 5; do dd if=/dev/zero bs=1M count=30 >&$fd 2>/dev/null; done
sleep 600
"""
_SECRET = "the host's secret"


@pytest.mark.kernel
def test_a_guest_reads_only_programs_and_fills_no_disk(real_kernel: Callable[[str], Kernel], tmp_path: Path) -> None:
    secret, public, private = tmp_path / "secret", tmp_path / "shared/public", tmp_path / "shared/private"
    public.parent.mkdir()
    for path in (secret, public, private):
        path.write_text("for the guest" if path == public else _SECRET)
    private.chmod(0o600)
    if os.geteuid() != 0:
        private.unlink()  # QEMU runs as the user whose file it is
    script = _ATTACK.format(secret=secret, public=public, private=private, deep="/".join("d" * 40))
    plan = Boot(real_kernel("bookworm"), payload.archive([], ["sh", "-c", script]), folders=[public.parent])
    result = qemu.boot(plan, tmp_path / "logs")
    # What follows a link would have the secret; what opens a pipe would wait for ever.
    assert (result.outcome, result.status) == (LOST, None)
    assert "the guest left more than 64 MiB" in result.reason
    assert (result.stderr, result.notes) == (str(secret), ("/proc/self/environ",))
    first, *lines = result.stdout.decode().splitlines()
    assert set(first.split()[1:]) >= {"results", "share0"}
    assert lines[-2:] == ["shared: for the guest", "changed: x"]
    assert len(lines) > 5
    assert _SECRET not in result.stdout.decode()
    assert "root:" not in result.stdout.decode()
    assert public.read_text() == "for the guest"


def test_a_file_of_a_guest_cannot_grow_beyond_the_limit(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        program = "import os, sys; sys.stdin.read(); os.lseek(1, 1 << 40, 0); os.write(1, b'x')"
        command = [sys.executable, "-c", f"import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL); {program}"]
        with subprocess.Popen(share_quota.limited(command), stdin=subprocess.PIPE, stdout=file) as process:
            process.communicate(b"")
    assert process.returncode == -signal.SIGXFSZ
    assert (tmp_path / "file").stat().st_size == 0


@pytest.mark.parametrize(
    ("count", "size", "excess"),
    [
        (7, 1 << 20, ""),
        (300, 0, "the guest left more than 256 files"),
        (3, 30 << 20, "the guest left more than 64 MiB"),
    ],
)
@pytest.mark.parametrize("removed", [False, True], ids=["", "removed"])
def test_the_quota_of_the_share(count: int, size: int, excess: str, removed: bool, tmp_path: Path) -> None:
    share = tmp_path / "share"
    (share / "a/b").mkdir(parents=True)
    files = [(share / "a/b" / str(number)).open("wb") for number in range(count)]
    for number, file in enumerate(files):
        file.write(b"\1" * size)
        file.flush()
        if removed:
            (share / "a/b" / str(number)).unlink()
    assert share_quota.excess(share, os.getpid()) == excess
    for file in files:
        file.close()


def test_a_path_that_is_too_long_hides_no_files(tmp_path: Path) -> None:
    share = tmp_path / "share"
    share.mkdir()
    here = os.open(share, os.O_PATH)
    for _ in range(20):
        os.mkdir("d" * 255, dir_fd=here)
        deeper = os.open("d" * 255, os.O_PATH, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    assert share_quota.excess(share, os.getpid()) == "the guest left a folder that cannot be read: File name too long"
    keeper_process.remove_tree(share)


def test_a_work_folder_of_any_depth_is_removed() -> None:
    with keeper.folder() as folder:
        here = os.open(folder, os.O_PATH)
        for _ in range(1200):
            os.mkdir("d", dir_fd=here)
            Path(f"/proc/self/fd/{here}/file").write_text("")
            deeper = os.open("d", os.O_PATH, dir_fd=here)
            os.close(here)
            here = deeper
        os.symlink("/", "link", dir_fd=here)
        os.close(here)
    assert not folder.exists()


_KILLED_LAB = """
import sys
from pathlib import Path
from kvmprobe.lab import userspace
userspace.fetch("bookworm", Path(sys.argv[1]), print)
"""
_FAKES = {
    "apt-get": "echo 'Debian|Debian|mirror'",
    "mksquashfs": "exit 1",
    "mmdebstrap": 'setsid sleep 600 & (sleep 600; true) & touch "$TMPDIR/begun" begun; sleep 600',
}


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_lab_leaves_no_process_and_no_folder(signum: signal.Signals, tmp_path: Path) -> None:
    programs, temp, cache = (tmp_path / name for name in ("programs", "temp", "cache"))
    for folder in (programs, temp):
        folder.mkdir()
    for name, script in _FAKES.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    mark = f"KVMPROBE_TEST_MARK={tmp_path}"
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "TMPDIR": str(temp)}
    environment["KVMPROBE_TEST_MARK"] = str(tmp_path)
    with subprocess.Popen([sys.executable, "-c", _KILLED_LAB, str(cache)], env=environment) as lab:
        assert wait_until(lambda: any(temp.glob("*/begun")))
        assert len(_marked(mark)) > 4
        lab.send_signal(signum)
    assert wait_until(lambda: not _marked(mark)), _marked(mark)
    assert list(temp.iterdir()) == []
    assert [path.name for path in (cache / "userspaces-2").iterdir()] == [".bookworm.lock"]


def _marked(mark: str) -> list[str]:
    """The running processes that have the variable `mark`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
        except OSError:
            continue
    return found
