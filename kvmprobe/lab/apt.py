"""Kernel packages of any Debian suite, downloaded with an apt that has its own lists and installs nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from kvmprobe.lab import tools
from kvmprobe.lab.tools import Say
from kvmprobe.model.errors import Problem

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_OWN_KERNEL = "Or boot a kernel of your own with --kernel and --modules."
_NETWORK = f"Does apt-get update work on this machine? {_OWN_KERNEL}"

# linux-image-amd64 depends on linux-image-RELEASE; newer ones of these are split and depend on the other two.
_METAPACKAGE = "linux-image-amd64"
_DEPENDS = re.compile(r"\s*\|?Depends: (linux-(?:image|binary|modules)-\d\S*)$")


def mirror() -> str:
    """The Debian mirror that this machine's apt uses. Raises a Problem where there is none."""
    formatted = ("--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages")
    targets = tools.run(tools.find("apt-get", "apt"), "indextargets", *formatted).decode()
    for line in targets.splitlines():
        origin, label, uri = line.split("|", 2)
        if (origin, label) == ("Debian", "Debian"):
            return uri
    raise Problem(
        "apt on this machine knows no Debian mirror", f"Run apt-get update, on a Debian machine. {_OWN_KERNEL}"
    )


class Apt:
    """apt for one suite. Everything it writes is in the new folder `folder`."""

    def __init__(self, suite: str, folder: Path) -> None:
        if not _KEYRING.exists():
            raise Problem(
                f"{_KEYRING} is missing", f"Install it: apt-get install debian-archive-keyring. {_OWN_KERNEL}"
            )
        self._suite = suite
        self._folder = folder
        for name in ("lists/partial", "cache/archives/partial", "packages"):
            (folder / name).mkdir(parents=True)
        sources = folder / "sources.list"
        sources.write_text(f"deb [arch=amd64 target=Packages signed-by={_KEYRING}] {mirror()} {suite} main\n")
        settings = {
            "Dir::State::Lists": folder / "lists",
            "Dir::State::Status": "/dev/null",  # what is installed here does not matter
            "Dir::Cache": folder / "cache",
            "Dir::Etc::SourceList": sources,
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "APT::Sandbox::User": "root",  # its user _apt may not enter our folder
            "APT::Update::Error-Mode": "any",  # else apt-get update succeeds without a network
        }
        self._settings = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]

    def kernel(self, say: Say) -> list[Path]:
        """Downloads the suite's kernel: the image package and those with its modules. Raises a Problem."""
        self.update()
        return self.download(self._packages(), say)

    def update(self) -> None:
        """Fetches the suite's lists, which comes first. Raises a Problem."""
        self._run("apt-get", "update", hint=_NETWORK)

    def download(self, packages: Sequence[str], say: Say) -> list[Path]:
        """Downloads these packages. Raises a Problem."""
        say(f"{self._suite}: downloading {' '.join(packages)} …")
        into = self._folder / "packages"
        self._run("apt-get", "download", *packages, cwd=into, hint=_NETWORK)
        return sorted(into.glob("*.deb"))

    def _packages(self) -> list[str]:
        found: list[str] = []
        look_at = [_METAPACKAGE]
        while look_at:
            shown = self._run("apt-cache", "depends", look_at.pop()).splitlines()
            new = {match[1] for match in map(_DEPENDS.match, shown) if match}.difference(found)
            found += sorted(new)
            look_at += sorted(new)
        if not found:
            raise Problem(f"{self._suite} has no kernel package behind {_METAPACKAGE}")
        return found

    def _run(self, program: str, *arguments: str, cwd: Path | None = None, hint: str | None = None) -> str:
        return tools.run(tools.find(program, "apt"), *self._settings, *arguments, cwd=cwd, hint=hint).decode()
