"""The explanation of a reason: all that the table has, in lines that fit a terminal."""

from __future__ import annotations

import re

import pytest

from kvmprobe.formats import explanation
from kvmprobe.formats.hint_steps import parts, sentences
from kvmprobe.judge.causes import CAUSES
from kvmprobe.judge.features.feature_table import FEATURES
from kvmprobe.judge.requirements.requirement_table import QUANTITIES, REQUIREMENTS
from kvmprobe.judge.sev import SEV_CAUSES
from kvmprobe.model.reasons import REASONS
from kvmprobe.model.verdict_status import EXIT_STATUS


def assert_hint_is_in(hint: str, explained: str) -> None:
    """Every word, without the backticks and full stops around commands that have lines of their own."""
    words = re.sub(r"^ +[0-9]\. ", "", explained.partition("What to do:\n")[2], flags=re.MULTILINE)
    for sentence in sentences(hint):
        for text, _ in parts(sentence):
            assert " ".join(text.split()) in " ".join(words.split())


@pytest.mark.parametrize("name", REASONS)
def test_a_reason_in_full(name: str) -> None:
    reason = REASONS[name]
    text = explanation.render(name)
    lines = text.splitlines()
    assert lines[0] == f"{name}: {reason.status}, exit status {EXIT_STATUS[reason.status]}"
    assert [line for line in lines if line.endswith(":") and line[0] != " "] == [
        "When:",
        "In the kernel:",
        "In its log:",
        "What to do:",
    ]
    assert max(map(len, lines)) <= 80
    words = " ".join(text.split())
    for part in (reason.when, reason.kernel, reason.log):
        assert part in words
    assert_hint_is_in(reason.hint, text)


@pytest.mark.parametrize("name", CAUSES)
def test_a_cause_in_full(name: str) -> None:
    cause = CAUSES[name]
    text = explanation.render(name)
    words = " ".join(text.split())
    for part in (f"{name}: a cause of {', '.join(cause.reasons)}", cause.when):
        assert part in words
    assert_hint_is_in(cause.what_to_do(), text)
    assert [line for line in text.splitlines() if line.endswith(":") and line[0] != " "] == ["When:", "What to do:"]


def test_commands_stand_alone_and_actions_are_numbered() -> None:
    hint = explanation.render("modules-gone").partition("What to do:\n")[2]
    assert hint.splitlines() == [
        "  The modules of the running kernel are gone (FOLDER).",
        "  1. Reboot into the installed kernel:",
        "         systemctl reboot",
        "  2. In a container, the modules are those of the host: load kvm_amd there.",
    ]
    assert "1." not in explanation.render("svme-set-at-module-load").partition("What to do:\n")[2].replace("7.2.1", "")


def test_without_a_name_all_reasons_causes_features_and_requirements() -> None:
    rows = [line.split(maxsplit=1) for line in explanation.render(None).splitlines()]
    assert rows[: len(REASONS)] == [[reason.name, reason.status] for reason in REASONS.values()]
    requirements = [name for name in (*REQUIREMENTS, *QUANTITIES) if name not in FEATURES]
    assert [name for name, _ in rows[len(REASONS) :]] == [*CAUSES, *SEV_CAUSES, *FEATURES, *requirements]
    assert {what for _, what in rows[-len(requirements) :]} == {"a requirement"}


@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_names_what_kvm_amd_needs_for_it(name: str) -> None:
    feature, text = FEATURES[name], explanation.render(name)
    assert text.startswith(f"{name}: a feature of kvm_amd\n")
    assert f"kvm_amd.{feature.parameter}" in text or feature.parameter is None
    for needed in feature.needs:
        assert f"only with:\n  {needed}\n" in text


@pytest.mark.parametrize(
    ("name", "command"),
    [("nested", "--nested"), ("sev", "--sev"), ("sev-es", "--sev"), ("sev-snp", "--sev"), ("npt", "-v")],
)
def test_an_explanation_names_the_command_that_shows_more(name: str, command: str) -> None:
    lines = [line.strip() for line in explanation.render(name).partition("What to do:\n")[2].splitlines()]
    assert f"kvmprobe {command}" in lines


@pytest.mark.parametrize("name", SEV_CAUSES)
def test_a_cause_of_sev_in_full(name: str) -> None:
    cause = SEV_CAUSES[name]
    text = explanation.render(name)
    words = " ".join(text.split())
    for part in (f"{name}: why KVM runs no guests of {', '.join(cause.reasons)}", cause.when):
        assert part in words
    assert_hint_is_in(cause.what_to_do(), text)
    assert max(map(len, text.splitlines())) <= 80
