"""Downloads packages of any Debian suite, with an apt that has its own package lists and installs nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from kvmprobe.lab import external_programs
from kvmprobe.lab.external_programs import Say
from kvmprobe.model.errors import Problem

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_OWN_KERNEL = "Or boot a kernel of your own with --kernel and --modules."
_NETWORK = f"Check that apt-get update works on this machine. {_OWN_KERNEL}"

# linux-image-amd64 depends on linux-image-RELEASE. In newer releases that package is split, and depends on
# linux-binary-RELEASE and linux-modules-RELEASE.
_METAPACKAGE = "linux-image-amd64"
_KERNEL_PART = re.compile(r"linux-(?:image|binary|modules)-\d")
_DEPENDS = re.compile(r"\s*\|?Depends: ([^\s<>]+)$")


def mirror() -> str:
    """Returns the URI of the Debian mirror in this machine's apt configuration. Raises a Problem if there is none."""
    formatted = ("--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages")
    apt_get = external_programs.find("apt-get", "apt")
    targets = external_programs.run(apt_get, "indextargets", *formatted).decode()
    for line in targets.splitlines():
        origin, label, uri = line.split("|", 2)
        if (origin, label) == ("Debian", "Debian"):
            return uri
    raise Problem("apt on this machine has no Debian mirror", f"Run apt-get update, on a Debian machine. {_OWN_KERNEL}")


class Apt:
    """apt for one suite. It writes only to the new folder `folder`. Raises a Problem if Debian's keys are missing."""

    def __init__(self, suite: str, folder: Path) -> None:
        if not KEYRING.exists():
            raise Problem(f"{KEYRING} is missing", f"Install it: apt-get install debian-archive-keyring. {_OWN_KERNEL}")
        self._suite = suite
        self._folder = folder
        for name in ("lists/partial", "cache/archives/partial", "packages"):
            (folder / name).mkdir(parents=True)
        sources = folder / "sources.list"
        sources.write_text(f"deb [arch=amd64 target=Packages signed-by={KEYRING}] {mirror()} {suite} main\n")
        settings = {
            "Dir::State::Lists": folder / "lists",
            "Dir::State::Status": "/dev/null",  # this machine's installed packages must not matter
            "Dir::Cache": folder / "cache",
            "Dir::Etc::SourceList": sources,
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "APT::Sandbox::User": "root",  # the user _apt has no access to our folder
            "APT::Update::Error-Mode": "any",  # otherwise apt-get update succeeds without a network
        }
        self._settings = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]

    def kernel(self, say: Say) -> list[Path]:
        """Downloads the suite's kernel: the image package and the packages with its modules. Raises Problem."""
        self.update()
        return self.download(self._kernel_packages(), say)

    def update(self) -> None:
        """Fetches the suite's package lists; needed before a download. Raises Problem."""
        self._run("apt-get", "update", hint=_NETWORK)

    def download(self, packages: Sequence[str], say: Say) -> list[Path]:
        """Downloads the packages named and returns their .deb files. Raises Problem."""
        say(f"{self._suite}: downloading {' '.join(packages)} …")
        into = self._folder / "packages"
        self._run("apt-get", "download", *packages, cwd=into, hint=_NETWORK)
        return sorted(into.glob("*.deb"))

    def depends(self, package: str) -> list[str]:
        """Returns the packages that `package` depends on, without virtual ones. Raises Problem."""
        lines = self._run("apt-cache", "depends", package).splitlines()
        return [match[1] for match in map(_DEPENDS.match, lines) if match]

    def _kernel_packages(self) -> list[str]:
        found: list[str] = []
        queue = [_METAPACKAGE]
        while queue:
            new = {name for name in self.depends(queue.pop()) if _KERNEL_PART.match(name)}.difference(found)
            found += sorted(new)
            queue += sorted(new)
        if not found:
            raise Problem(f"{self._suite} has no kernel package behind {_METAPACKAGE}")
        return found

    def _run(self, program: str, *arguments: str, cwd: Path | None = None, hint: str | None = None) -> str:
        path = external_programs.find(program, "apt")
        return external_programs.run(path, *self._settings, *arguments, cwd=cwd, hint=hint).decode()
