"""The output of `kvmprobe explain`: reasons, causes, features, requirements and conditions of SEV."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats import hint_steps
from kvmprobe.judge.features.feature import place_of
from kvmprobe.judge.features.feature_table import FEATURES
from kvmprobe.model.printable import columns, joined, wrap
from kvmprobe.model.reasons import REASONS
from kvmprobe.model.verdict_status import EXIT_STATUS

if TYPE_CHECKING:
    from kvmprobe.judge.features.feature import Feature

_WIDTH = 80


def render(name: str | None) -> str:
    """One reason, cause, feature or requirement in full, by its name; without a name, all reasons with their verdicts,
    then all causes with the first reason of each, then those of SEV, then all features, then all other requirements."""
    if name is None:
        from kvmprobe.judge.causes import CAUSES  # many modules, which a reason alone does not need
        from kvmprobe.judge.requirements.requirement_table import QUANTITIES, REQUIREMENTS
        from kvmprobe.judge.sev import SEV_CAUSES

        reasons = [[reason.name, reason.status] for reason in REASONS.values()]
        causes = [[cause.name, f"a cause of {cause.reasons[0]}"] for cause in CAUSES.values()]
        of_sev = [[cause.name, f"why {cause.reasons[0]} is off"] for cause in SEV_CAUSES.values()]
        features = [[name, "a feature of kvm_amd"] for name in FEATURES]
        others = [[name, "a requirement"] for name in (*REQUIREMENTS, *QUANTITIES) if name not in FEATURES]
        return joined(columns([*reasons, *causes, *of_sev, *features, *others]))
    if name in FEATURES:
        return _feature(FEATURES[name])
    if name not in REASONS:
        return _cause(name)
    reason = REASONS[name]
    head = f"{reason.name}: {reason.status}, exit status {EXIT_STATUS[reason.status]}"
    sections = {"When:": reason.when, "In the kernel:": reason.kernel, "In its log:": reason.log}
    numbered = reason.status in ("failed", "inconclusive")
    return joined([head, *_sections(sections), *_what_to_do(reason.hint, numbered)])


def _cause(name: str) -> str:
    from kvmprobe.judge.causes import CAUSES
    from kvmprobe.judge.sev import SEV_CAUSES

    if name not in CAUSES and name not in SEV_CAUSES:
        return _requirement(name)
    cause = CAUSES.get(name) or SEV_CAUSES[name]
    what = "a cause of" if name in CAUSES else "why KVM runs no guests of"
    head = wrap(f"{name}: {what} {', '.join(cause.reasons)}", _WIDTH, "", "    ")
    return joined([*head, *_sections({"When:": cause.when}), *_what_to_do(cause.what_to_do(), True)])


def _requirement(name: str) -> str:
    """What a requirement asks, and how to ask it."""
    from kvmprobe.judge.requirements.requirement_table import QUANTITIES, REQUIREMENTS
    from kvmprobe.judge.requirements.sev_requirements import SEV_REQUIREMENTS

    quantity = QUANTITIES.get(name)
    description = quantity.description if quantity else REQUIREMENTS[name].description
    ask = f"--require '{quantity.example}'" if quantity else f"--require {name}"
    see = _what_to_do(_SEE_SEV, False) if name in [one.name for one in SEV_REQUIREMENTS] else ()
    return joined([f"{name}: a requirement, kvmprobe check {ask}", *_sections({"What it asks:": description}), *see])


def _feature(feature: Feature) -> str:
    parameter = f"kvm_amd.{feature.parameter}" if feature.parameter else "none: kvm_amd uses it where every CPU has it"
    sections = {
        "What it does:": feature.about,
        "Every CPU needs:": f"{place_of(feature)}" + (f", {feature.flag} in /proc/cpuinfo" if feature.flag else ""),
        "Parameter:": parameter,
        "kvm_amd uses it only with:": ", ".join(feature.needs),
        "In the kernel:": "svm_hardware_setup() in arch/x86/kvm/svm/svm.c",
    }
    see = f"{_SEE} {_SEE_NESTED}" if feature.name == "nested" else _SEE
    shown = {title: text for title, text in sections.items() if text}
    return joined([f"{feature.name}: a feature of kvm_amd", *_sections(shown), *_what_to_do(see, False)])


_SEE = "See whether it is in effect on a host, and why not: `kvmprobe -v`."
_SEE_NESTED = "See whether a guest works in a guest: `kvmprobe --nested`."
_SEE_SEV = "See which condition is not met on a host: `kvmprobe --sev`."


def _sections(texts: dict[str, str]) -> Iterator[str]:
    for title, text in texts.items():
        yield from ("", title, *wrap(text, _WIDTH, "  ", "  "))


def _what_to_do(hint: str, numbered: bool) -> Iterator[str]:
    yield from ("", "What to do:")
    for indent, text in hint_steps.lines(hint, numbered):
        yield from wrap(text, _WIDTH, indent, " " * len(indent))
