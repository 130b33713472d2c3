"""Compiled modules for kvmprobe.pyz, by the Pythons that the user names: each host's Python takes those that fit it.

Compiled code belongs to one version of Python (PEP 3147), which its magic number shows. pyz_main.py puts the folder of
the running Python's number before the sources, which serve all other versions.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence

from scripts.distribution import BuildError
from scripts.distribution.zips import Files

FOLDER = "code"
_OLDEST = (3, 9)

# Runs in the other Python. The flag 1: an unchecked hash-based pyc (PEP 552), which Python uses without a look at the
# source. Version 2 of marshal has no references to earlier objects, which depend on what else the process has done: the
# result is the same in each run.
_COMPILE = """
import base64, importlib.util, json, marshal, sys
done = {}
for name, text in json.load(sys.stdin).items():
    source = base64.b64decode(text)
    code = marshal.dumps(compile(source, name, "exec", dont_inherit=True), 2)
    head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(source)
    done[name] = base64.b64encode(head + code).decode()
magic = int.from_bytes(importlib.util.MAGIC_NUMBER[:2], "little")
json.dump([sys.implementation.name, list(sys.version_info[:2]), magic, done], sys.stdout)
"""


def compiled(pythons: Sequence[str], files: Files) -> Files:
    """Returns the files to add to those of kvmprobe.pyz, `files`: FOLDER/MAGIC/NAME.pyc, by each of `pythons`.

    Beside them are the packages' data files, which Python looks for beside the module. Raises BuildError.
    """
    modules = {name: base64.b64encode(data).decode() for name, data in files.items() if _is_module(name)}
    packages = {name.partition("/")[0] for name in modules}
    data_files = {
        name: data
        for name, data in files.items()
        if not name.endswith(".py") and name.partition("/")[0] in packages and "/" in name
    }
    found: Files = {}
    for python in pythons:
        magic, made = _compile(python, modules)
        found.update({f"{FOLDER}/{magic}/{name[:-3]}.pyc": base64.b64decode(code) for name, code in made.items()})
        found.update({f"{FOLDER}/{magic}/{name}": data for name, data in data_files.items()})
    return found


def _is_module(name: str) -> bool:
    return name.endswith(".py") and "/" in name and ".dist-info/" not in name


def _compile(python: str, modules: dict[str, str]) -> tuple[int, dict[str, str]]:
    """The magic number of `python`, and what it made of each module, in base64. Raises BuildError."""
    try:
        done = subprocess.run(
            [python, "-I", "-S", "-B", "-c", _COMPILE],
            input=json.dumps(modules),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise BuildError(f"--compile {python}: cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        raise BuildError(f"--compile {python}: failed: {done.stderr.strip().rpartition(chr(10))[2]}")
    try:
        name, version, magic, made = json.loads(done.stdout)
    except ValueError as error:
        raise BuildError(f"--compile {python}: is no Python") from error
    if name != "cpython" or tuple(version) < _OLDEST:
        raise BuildError(f"--compile {python}: is {name} {version[0]}.{version[1]}, CPython 3.9 or later is needed")
    return magic, made
