"""What every format makes of every recorded report, pinned: digests of all outputs, and some outputs as a whole.

A change that should not change any output then shows no diff, and one that should shows what it changed. After such a
change, `python -m tests.helpers.pinned_outputs` writes the files again; read the diff before you commit it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kvmprobe.formats import render
from kvmprobe.judge import judge
from tests.helpers.recorded_evidence import RECORDED, recorded, recorded_name

FOLDER = Path(__file__).parents[1] / "formats/golden"
DIGESTS = FOLDER / "digests.txt"

DIGESTED = ("json", "prometheus", "nagios", "nfd", "html", "ktap", "tap", "junit")
_DIGITS = 12  # of a SHA-256: enough to notice a change

# One recorded report of each verdict, which is kept as a whole in each format, and in text with these volumes.
WHOLE = {
    "confirmed": "matrix/bookworm/epyc",
    "usable": "matrix/bookworm/user-of-kvm",
    "failed": "matrix/bookworm/held-second",
    "inconclusive": "matrix/bookworm/ordinary-user",
    "not-applicable": "matrix/bookworm/intel",
}
_VOLUMES = {"text-q": -1, "text": 0, "text-v": 1, "text-vv": 2}
_WHOLE_FORMATS = (*_VOLUMES, "prometheus", "nagios", "nfd", "ktap", "tap", "junit")


def digests() -> str:
    """A line for each recorded report: its name, and the beginning of the SHA-256 of its output in each format."""
    lines = [" ".join(["#", *DIGESTED])]
    for path in RECORDED:
        report = judge(recorded(recorded_name(path)))
        found = (hashlib.sha256(_pinned(report, name).encode()).hexdigest()[:_DIGITS] for name in DIGESTED)
        lines.append(" ".join([recorded_name(path), *found]))
    return "".join(f"{line}\n" for line in lines)


def wholes() -> Iterator[tuple[str, str]]:
    """The name of each file of a whole output below FOLDER, and the output."""
    for verdict, name in WHOLE.items():
        report = judge(recorded(name))
        for format in _WHOLE_FORMATS:
            yield f"{verdict}.{format}", _pinned(report, format)


def _pinned(report: Any, name: str) -> str:
    """The output without what depends on when and by which version it is made."""
    if name in _VOLUMES:
        return render(report, "text", _VOLUMES[name], width=80)
    text = render(report, name)
    if name == "nagios":
        return re.sub(r"\bage=\d+s", "age=0s", text)
    if name == "html":  # the tables of checks and reasons are not the report's
        found = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
        assert found
        data = json.loads(found[1])
        return json.dumps({key: data[key] for key in sorted(data) if key not in ("version", "checks", "reasons")})
    return text


def main() -> None:
    """Writes all files again."""
    FOLDER.mkdir(exist_ok=True)
    DIGESTS.write_text(digests())
    for name, text in wholes():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
