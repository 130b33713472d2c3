"""Puts all mutants into one source: blocks `if (kvm_mutant == N)`, chosen when kvm is loaded.

The parameter has the permission 0, so that /sys/module/kvm/parameters does not show it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from scripts.kernel_mutants.mutant_table import Mutant

MAIN = "virt/kvm/kvm_main.c"  # here the parameter is defined
HEADER = "kvm_mutant.h"  # included in every file
HEADER_TEXT = "#include <linux/delay.h>\nextern int kvm_mutant;\n"
_PARAMETER = """
int kvm_mutant;
EXPORT_SYMBOL_GPL(kvm_mutant);
module_param_named(mutant, kvm_mutant, int, 0);
"""


def apply(mutants: Iterable[Mutant], root: Path) -> None:
    """Changes the files of the kernel's source below `root`. Raises ValueError; see `with_mutants`."""
    edits: dict[str, list[tuple[int, str, str]]] = {MAIN: []}
    for mutant in mutants:
        for edit in mutant.edits:
            edits.setdefault(edit.path, []).append((mutant.number, edit.original, edit.changed))
    for name, changes in edits.items():
        path = root / name
        try:
            text = with_mutants(path.read_text(), changes)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        path.write_text(text + _PARAMETER if name == MAIN else text)
    (root / HEADER).write_text(HEADER_TEXT)


def with_mutants(text: str, changes: Iterable[tuple[int, str, str]]) -> str:
    """Returns the source `text` with changes in it: (the mutant's number, its original lines, its changed lines).

    Several mutants may change the same lines. Raises ValueError if lines do not occur exactly once, or if two mutants
    change lines that overlap without being the same.
    """
    by_original: dict[str, list[tuple[int, str]]] = {}
    for number, original, changed in changes:
        by_original.setdefault(original, []).append((number, changed))
    places = []
    for original, variants in by_original.items():
        count = f"\n{text}".count(f"\n{original}")
        if count != 1:
            numbers = ", ".join(str(number) for number, _ in variants)
            raise ValueError(f"the lines of mutant {numbers} occur {count} times: {original.strip()}")
        start = f"\n{text}".index(f"\n{original}")
        places.append((start, start + len(original), original, variants))
    parts = []
    done = 0
    for start, end, original, variants in sorted(places):
        if start < done:
            raise ValueError(f"the lines of mutant {variants[0][0]} overlap those of another one: {original.strip()}")
        parts += [text[done:start], _choice(original, variants)]
        done = end
    return "".join(parts) + text[done:]


def _choice(original: str, variants: list[tuple[int, str]]) -> str:
    """A block that runs the lines of the mutant that was chosen."""
    cases = "".join(f"if (kvm_mutant == {number}) {{\n{changed}}} else " for number, changed in variants)
    return f"{{ {cases}{{\n{original}}} }}\n"
