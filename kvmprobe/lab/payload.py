"""What is put into one boot besides the kernel's base archive and kvmprobe: the preparation and the command."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from kvmprobe.lab.initramfs import Archive

LAB = "/lab"  # in the initramfs, where also kvmprobe is put
_FOLDER = "/kvmprobe-lab"  # the same in the guest's root, see init.sh


def archive(prepare: Sequence[str], command: Sequence[str], init: str = "") -> bytes:
    """The archive of one boot. `prepare`: lines of sh that run in the guest before `command`.

    `init`: the program of the guest that is process 1 after the preparation and sees to the command; see init.sh.
    """
    made = Archive()
    made.file("init", Path(__file__).with_name("init.sh").read_bytes(), 0o755)
    made.file(f"{LAB}/prepare", "".join(f"{line}\n" for line in prepare).encode())
    # Python's -m puts the working folder first on its path.
    made.file(f"{LAB}/command", f"cd {_FOLDER} && LC_ALL=C.UTF-8 exec {shlex.join(command)}\n".encode())
    if init:
        made.file(f"{LAB}/init", init.encode())
    return made.finish()
