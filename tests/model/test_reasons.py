"""The closed list of reasons: names and statuses that consumers rely on, and texts in one style."""

from __future__ import annotations

import re

import pytest

from kvmprobe.judge.check_table import CHECKS
from kvmprobe.model.json_schema import report_schema
from kvmprobe.model.reasons import REASONS, RENAMED_REASONS
from kvmprobe.model.verdict_status import EXIT_STATUS

PROMISED = {
    "confirmed": "svme-set-by-create-vm svme-set-at-module-load svme-set-by-another-vm",
    "usable": "guest-ran",
    "not applicable": "vendor-not-amd kvm-without-svm",
    "failed": (
        "cpu-lacks-svm firmware-disabled sev-guest kvm-amd-not-loaded kvm-amd-load-failed kvm-device-missing "
        "api-version svm-held-by-another-owner create-vm-failed svme-not-set svme-not-cleared register-corrupted "
        "resource-leaked cpus-disagree guest-failed nested-guest-failed observers-disagree requirement-not-met"
    ),
    "inconclusive": (
        "kvm-not-permitted msr-unreadable vm-not-created guest-not-run nested-guest-not-run soak-step-not-done "
        "svme-owner-unknown interfered requirement-unknown"
    ),
}


def test_the_table_is_the_promised_one() -> None:
    """No reason goes, and none changes its status, within a version of the schema."""
    promised = {name: status for status, names in PROMISED.items() for name in names.split()}
    assert {name: reason.status for name, reason in REASONS.items()} == promised


def test_exit_statuses_are_the_promised_ones() -> None:
    assert EXIT_STATUS == {"confirmed": 0, "usable": 0, "failed": 1, "inconclusive": 3, "not applicable": 4}


def test_renamed_reasons_are_todays_and_no_other_names() -> None:
    assert set(RENAMED_REASONS.values()) <= set(REASONS)
    assert not set(RENAMED_REASONS) & set(REASONS)


def test_the_schema_has_all_reasons_and_statuses() -> None:
    schema = report_schema()
    assert set(schema["$defs"]["reason"]["enum"]) == {*REASONS, *RENAMED_REASONS}
    assert schema["properties"]["verdict"]["properties"]["status"]["enum"] == list(EXIT_STATUS)


_WORDS = re.compile(r"\b(told|tells?|says?|said|witness\w*|neighbours?|odd|borrow\w*|mend\w*|None|True|False)\b")


@pytest.mark.parametrize("name", REASONS)
def test_the_texts_of_a_reason_are_sentences(name: str) -> None:
    reason = REASONS[name]
    assert name == reason.name
    for text in (reason.when, reason.kernel, reason.log, reason.hint):
        assert text.isascii(), text
        assert text.isprintable(), text
        assert "  " not in text
        assert text.endswith((".", "'.", ".'")), text
        assert not _WORDS.search(text), text
    assert reason.hint.count("`") % 2 == 0  # commands stand between backticks


def test_checks_have_ids_that_are_no_reasons() -> None:
    ids = [check.id for check in CHECKS]
    assert len(set(ids)) == len(ids)
    assert not set(ids) & set(REASONS) - {"api-version", "sev-guest"}
