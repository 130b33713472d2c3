"""Our own rules for the source, which ruff, mypy and import-linter do not know. `scripts/lint` runs it.

Each rule is a generator of violations, "PATH: what is wrong". Usage: source_rules.py [CHECKOUT]
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_LINES = 320
# One file each, by the rules of Python, pytest and Ansible.
SAME_NAME_ALLOWED = ("__init__.py", "__main__.py", "conftest.py")

# URLs that are names, not places to fetch from.
_IDENTIFIERS = r"(?!json-schema\.org|www\.w3\.org/2001/XMLSchema|mirror/)"
_ADDRESS = re.compile(rf"(deb|pypi|registry)[a-z.-]*\.(org|com)|https?://{_IDENTIFIERS}")
_IOCTL = re.compile(r"0xAE|libc\.ioctl\(")


def main() -> int:
    """Prints all violations. Returns the exit status."""
    checkout = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    files = _tracked(checkout)
    violations = [found for rule in RULES for found in rule(checkout, files)]
    for violation in violations:
        print(violation)
    return 1 if violations else 0


def addresses(checkout: Path, files: list[str]) -> Iterator[str]:
    """No address of a registry or server: users have their own mirrors."""
    for name in files:
        if name != "LICENSE" and not name.endswith(".png") and _ADDRESS.search((checkout / name).read_text()):
            yield f"{name}: contains the address of a registry or server"


def sizes(checkout: Path, files: list[str]) -> Iterator[str]:
    """The files of the product are small."""
    for name in files:
        if name.startswith("kvmprobe/") and name.endswith((".py", ".js", ".css", ".html", ".sh")):
            lines = len((checkout / name).read_text().splitlines())
            if lines > MAX_LINES:
                yield f"{name}: {lines} lines, more than {MAX_LINES}"


def request_numbers(checkout: Path, files: list[str]) -> Iterator[str]:
    """Only host/kvm.py knows KVM's request numbers."""
    for name in _python(files, "kvmprobe/"):
        if name != "kvmprobe/host/kvm.py" and _IOCTL.search((checkout / name).read_text()):
            yield f"{name}: a KVM request number outside of kvmprobe/host/kvm.py"


def file_names(_: Path, files: list[str]) -> Iterator[str]:
    """No two modules in different folders have the same name."""
    seen: dict[str, str] = {}
    for name in _python(files, "kvmprobe/", "tests/", "scripts/"):
        base = name.rpartition("/")[2]
        if base in seen and base not in SAME_NAME_ALLOWED:
            yield f"{name}: has the same name as {seen[base]}"
        seen.setdefault(base, name)


def class_names(checkout: Path, files: list[str]) -> Iterator[str]:
    """No two classes of the product have the same name."""
    seen: dict[str, str] = {}
    for name in _python(files, "kvmprobe/"):
        for node in ast.walk(ast.parse((checkout / name).read_text())):
            if isinstance(node, ast.ClassDef):
                if node.name in seen:
                    yield f"{name}: the class {node.name} has the same name as one in {seen[node.name]}"
                seen.setdefault(node.name, name)


RULES = (addresses, sizes, request_numbers, file_names, class_names)


def _python(files: list[str], *folders: str) -> list[str]:
    """The Python files below `folders`; without Ansible's, whose names Ansible sets."""
    return [
        name
        for name in files
        if name.endswith(".py") and name.startswith(folders) and not name.startswith("scripts/ansible/")
    ]


def _tracked(checkout: Path) -> list[str]:
    """The files of the checkout that git tracks or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, cwd=checkout, check=True).stdout
    return sorted({name for name in listed.split("\0") if name and (checkout / name).is_file()})


if __name__ == "__main__":
    sys.exit(main())
