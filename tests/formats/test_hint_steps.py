"""A hint as people read it: numbered steps, statements, and commands on lines of their own."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvmprobe.formats.hint_steps import is_action, lines, parts, sentences
from kvmprobe.judge.causes import CAUSES
from kvmprobe.judge.sev import SEV_CAUSES
from kvmprobe.model.printable import one_line
from kvmprobe.model.reasons import REASONS


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        ("Run as root.", ["Run as root."]),
        ("Stop its VMs. Then reboot.", ["Stop its VMs.", "Then reboot."]),
        ("Without a full stop", ["Without a full stop"]),
        ("Run `a. B c`. `ls -l` shows it.", ["Run `a. B c`.", "`ls -l` shows it."]),
        ("See /etc/modprobe.d/x.conf or 5.10. Then load it!", ["See /etc/modprobe.d/x.conf or 5.10.", "Then load it!"]),
        ("EFER 0x1d01. 6.12 only counts.", ["EFER 0x1d01. 6.12 only counts."]),
        ("", []),
    ],
)
def test_a_hint_is_a_list_of_sentences(hint: str, expected: list[str]) -> None:
    assert sentences(hint) == expected


@pytest.mark.parametrize(
    ("step", "pieces"),
    [
        ("Run as root.", [("Run as root.", False)]),
        ("Load it: `modprobe kvm_amd`.", [("Load it:", False), ("modprobe kvm_amd", True)]),
        (
            "Load it: `modprobe kvm_amd`, or `kvmprobe --load-kvm`, which records modprobe's answer.",
            [
                ("Load it:", False),
                ("modprobe kvm_amd", True),
                ("or", False),
                ("kvmprobe --load-kvm", True),
                ("which records modprobe's answer.", False),
            ],
        ),
        ("Run `kvmprobe` as root.", [("Run `kvmprobe` as root.", False)]),
        ("Check /dev (`findmnt /dev`).", [("Check /dev (`findmnt /dev`).", False)]),
        ("Give the VM `-cpu host -smp 2`.", [("Give the VM `-cpu host -smp 2`.", False)]),
        ("`/sbin/modprobe -r x`.", [("/sbin/modprobe -r x", True)]),
        ("`kvmprobe watch -- sh` watches it.", [("`kvmprobe watch -- sh` watches it.", False)]),
    ],
)
def test_a_command_is_a_piece_of_its_own(step: str, pieces: list[tuple[str, bool]]) -> None:
    assert parts(step) == pieces


@given(st.text(st.sampled_from("aB.!?` '(:")))
@example("`")
@example("` A` b. C")
def test_no_word_of_a_hint_is_lost(hint: str) -> None:
    line = one_line(hint, " ")
    assert " ".join(sentences(line)).split() == line.split()


HINTS = {
    **{name: reason.hint for name, reason in REASONS.items()},
    **{name: cause.what_to_do() for name, cause in {**CAUSES, **SEV_CAUSES}.items()},
}


@pytest.mark.parametrize("name", HINTS)
def test_every_hint_has_sentences(name: str) -> None:
    found = sentences(HINTS[name])
    assert " ".join(found) == HINTS[name]
    assert all(sentence[0].isupper() or sentence[0] in "`'/" for sentence in found)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Reboot.", True),
        ("Then load kvm_amd, where it is not loaded:", True),
        ("If it shows control_d, this is dom0: boot the kernel without Xen.", True),
        ("On a Windows host, turn off Hyper-V and memory integrity, too.", True),
        ("Else install the rest of the modules.", True),
        ("The list: `dmesg -T`.", True),
        ("The kernel refused root to load kvm_amd.", False),
        ("Only the setup can show whether SVM is enabled there.", False),
        ("If SVME is 1 right after a reboot, firmware set it.", False),
        ("Setup of the firmware decides.", False),
        ("Nothing to do: KVM can use SVM on this host.", False),
    ],
)
def test_an_action_is_what_the_reader_does(sentence: str, expected: bool) -> None:
    assert is_action(sentence) is expected


def test_actions_are_numbered_and_statements_are_not() -> None:
    hint = "It is off. Reboot. Only that ends it. Then load it: `modprobe kvm_amd`. It may fail."
    assert list(lines(hint, numbered=True)) == [
        ("  ", "It is off."),
        ("  1. ", "Reboot."),
        ("     ", "Only that ends it."),
        ("  2. ", "Then load it:"),
        ("         ", "modprobe kvm_amd"),
        ("  ", "It may fail."),
    ]
    assert [indent for indent, _ in lines(hint, numbered=False)] == ["  ", "  ", "  ", "  ", "      ", "  "]


def test_a_single_action_has_no_number() -> None:
    assert list(lines("It is off. Reboot.", numbered=True)) == [("  ", "It is off."), ("  ", "Reboot.")]


BAD = [name for name in HINTS if name not in REASONS or REASONS[name].status in ("failed", "inconclusive")]
NOTHING_HELPS = {"cpu-too-old"}


@pytest.mark.parametrize("name", BAD)
def test_a_hint_of_a_bad_verdict_has_something_to_do(name: str) -> None:
    """So a verb that the table of verbs lacks is noticed."""
    assert any(is_action(sentence) for sentence in sentences(HINTS[name])) or name in NOTHING_HELPS


@pytest.mark.parametrize("name", HINTS)
def test_no_statement_contains_a_request(name: str) -> None:
    """A statement with a request in its second half would have no number."""
    requests = (": ask", ": do", ": run", ": use", ": boot", ": load", ": look", "; ask", "; use", "; run")
    statements = [sentence for sentence in sentences(HINTS[name]) if not is_action(sentence)]
    assert [text for text in statements if any(request in text for request in requests)] == []
