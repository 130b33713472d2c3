"""Changes of what kvm_amd makes of each feature: what was in effect before and is not now is worse."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.compare.difference import BETTER, CHANGED, NOT_COMPARABLE, SAME, WORSE, Difference, Side
from kvmprobe.judge.features import features_of
from kvmprobe.model.printable import one_line

if TYPE_CHECKING:
    from kvmprobe.model.judgement import FeatureReport

_AREA = "features"


def effects(old: Side, new: Side) -> Iterator[Difference]:
    """Each feature of which both reports show whether it is in effect; one line names those that only one shows.

    Nothing where kvm_amd is missing in one of them: the changes of modules show that.
    """
    if not (old.facts.has_kvm_amd and new.facts.has_kvm_amd):
        return
    same_cpu = old.cpu() == new.cpu()
    rows = [{row["name"]: row for row in features_of(side.facts)} for side in (old, new)]
    unknown: tuple[list[str], list[str]] = [], []
    for name in (name for name in rows[0] if name in rows[1]):
        was, now = rows[0][name], rows[1][name]
        states = was["in_effect"], now["in_effect"]
        if None not in states:
            yield _difference(was, now, same_cpu)
        elif states != (None, None):
            unknown[states.index(None)].append(name)
    for side, names in enumerate(unknown):
        if names:
            was_text, now_text = ("unknown", "known") if side == 0 else ("known", "unknown")
            yield Difference(_AREA, "in effect in kvm_amd", NOT_COMPARABLE, was_text, now_text, ", ".join(names))


def _difference(was: FeatureReport, now: FeatureReport, same_cpu: bool) -> Difference:
    note = ""
    if was["in_effect"] == now["in_effect"]:
        rating = SAME
    else:
        rating = CHANGED if not same_cpu else BETTER if now["in_effect"] else WORSE
        note = one_line(now["why"] or "")
    return Difference(_AREA, f"kvm_amd {was['name']}", rating, _text(was), _text(now), note)


def _text(row: FeatureReport) -> str:
    return "in effect" if row["in_effect"] else "not in effect"
