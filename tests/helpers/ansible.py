"""Ansible as people run it: the programs of ansible-core, with the collection of this checkout."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.helpers.run_kvmprobe import PROJECT

COLLECTION = PROJECT / "scripts/ansible"


class Ansible:
    """`folder` is the home folder for Ansible; `collection` is where it looks for kvmprobe.host."""

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec("ansible") is None:
            unavailable("ansible-core is not installed (pip install kvmprobe[test], with Python 3.11 or later)")
        self.folder = folder
        self.collection = folder / "collections/ansible_collections/kvmprobe/host"
        self.collection.parent.mkdir(parents=True)

    def run(
        self, program: str, *arguments: str | Path, env: Mapping[str, str] | None = None, deadline: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Runs one of Ansible's programs."""
        path = os.pathsep.join((str(Path(sys.executable).parent), "/usr/sbin:/usr/bin:/sbin:/bin"))
        pip = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
        own = {
            "HOME": str(self.folder),
            "PATH": path,
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "collections"),
            "ANSIBLE_NOCOLOR": "1",
        }
        return subprocess.run(
            [program, *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**pip, **own, **(env or {})},
            cwd=self.collection if program == "ansible-test" else self.folder,
            timeout=deadline,
            check=False,
        )


def unavailable(reason: str) -> None:
    """Skips the test, or fails it if KVMPROBE_REQUIRE_KERNELS is set."""
    if os.environ.get("KVMPROBE_REQUIRE_KERNELS"):
        pytest.fail(reason)
    pytest.skip(reason)
