"""The archive of one boot: init.sh, the preparation and the command. It follows the base archive and kvmprobe."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from kvmprobe.lab.initramfs import Archive

LAB = "/lab"  # the lab's folder in the initramfs, with kvmprobe in it
_FOLDER = "/kvmprobe-lab"  # the same folder in the guest's root; init.sh binds it


def archive(prepare: Sequence[str], command: Sequence[str], init: str = "", suspends: bool = False) -> bytes:
    """Returns the archive of one boot. `prepare` are lines of sh that run in the guest before `command`.

    `init`: a program in the guest that becomes process 1 after the preparation and runs the command; see init.sh.
    `suspends`: the command suspends the guest, whose root is an image.
    """
    made = Archive()
    made.file("init", Path(__file__).with_name("init.sh").read_bytes(), 0o755)
    made.file(f"{LAB}/prepare", "".join(f"{line}\n" for line in prepare).encode())
    # python -m finds kvmprobe in the working folder.
    made.file(f"{LAB}/command", f"cd {_FOLDER} && LC_ALL=C.UTF-8 exec {shlex.join(command)}\n".encode())
    if init:
        made.file(f"{LAB}/init", init.encode())
    if suspends:
        made.file(f"{LAB}/suspends", b"")
    return made.finish()
