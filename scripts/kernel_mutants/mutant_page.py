"""Writes the result into docs/regression.md, between two marks for each kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.kernel_mutants import ratings
from scripts.kernel_mutants.commands import ALWAYS, COMMANDS, COMPARISONS, STRICT
from scripts.kernel_mutants.mutant_table import NONE, Mutant
from scripts.kernel_mutants.ratings import CAUGHT, SLIPPED, WRONG, Rating

PAGE = Path(__file__).resolve().parents[2] / "docs/regression.md"
_STEPS = [name for name in COMMANDS if name not in ALWAYS]
_COMPARISONS = [name for name in COMPARISONS if not name.endswith(STRICT)]
_COLUMNS = (*ALWAYS, "soak's step", *_COMPARISONS)


def summary(mutants: Sequence[Mutant], found: Mapping[str, Mapping[str, Rating]]) -> list[str]:
    """Returns the lines that count the result. `found` has the ratings of each mutant by its name."""
    visible = [mutant for mutant in mutants if mutant.command != NONE]
    by_any = [mutant for mutant in visible if any(rating.rating == CAUGHT for rating in found[mutant.name].values())]
    by_named = [mutant for mutant in visible if ratings.named(mutant, found[mutant.name]) == CAUGHT]
    missed = [mutant.name for mutant in visible if mutant not in by_any]
    counts = f"{len(mutants)} mutants, {len(visible)} of which can be seen from user space. Some command catches"
    lines = [f"{counts} {len(by_any)} of these, and the command that should catch it {len(by_named)}."]
    if missed:
        lines.append(f"Not caught: {', '.join(missed)}.")
    return lines


def table(mutants: Sequence[Mutant], found: Mapping[str, Mapping[str, Rating]]) -> list[str]:
    """Returns the lines of the table of mutants and commands."""
    lines = [f"| mutant | change | {' | '.join(_COLUMNS)} |", f"| --- | --- |{' --- |' * len(_COLUMNS)}"]
    for mutant in mutants:
        rated = found[mutant.name]
        step = next((name for name in _STEPS if name in rated), "")
        names = [*ALWAYS, step, *_COMPARISONS]
        cells = [_cell(mutant, name, rated, name == step) for name in names]
        lines.append(f"| {mutant.name} | {mutant.change} | {' | '.join(cells)} |")
    return lines


def write(series: str, lines: Sequence[str], page: Path = PAGE) -> None:
    """Puts `lines` between the marks of the kernel `series`. Raises ValueError if the page lacks the marks."""
    text = page.read_text()
    begin, end = f"<!-- mutants of {series} -->\n", f"<!-- end of the mutants of {series} -->\n"
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise ValueError(f"{page} lacks the marks {begin.strip()} and {end.strip()}")
    page.write_text(before + begin + "".join(f"{line}\n" for line in lines) + end + after)


def _cell(mutant: Mutant, name: str, rated: Mapping[str, Rating], is_step: bool) -> str:
    """A command's cell. A comparison's has --strict where only that catches the mutant."""
    rating, strict = rated.get(name), rated.get(name + STRICT)
    if rating is None:
        return ""
    text = "slips" if rating.rating == SLIPPED else rating.reason if rating.rating == WRONG else CAUGHT
    if rating.rating == SLIPPED and strict and strict.rating == CAUGHT:
        text = "caught with --strict"
    if mutant.command in (name, name + STRICT):
        text = f"**{text}**"
    return f"{name}: {text}" if is_step else text
