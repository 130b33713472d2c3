"""A hint as steps, and its commands on lines of their own."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvmprobe.formats.hint_steps import parts, steps
from kvmprobe.model.printable import one_line
from kvmprobe.model.reasons import REASONS


@pytest.mark.parametrize(
    ("hint", "sentences"),
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
def test_a_step_is_a_sentence(hint: str, sentences: list[str]) -> None:
    assert steps(hint) == sentences


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
    assert " ".join(steps(line)).split() == line.split()


@pytest.mark.parametrize("reason", REASONS)
def test_every_hint_has_steps(reason: str) -> None:
    hint = REASONS[reason].hint
    assert " ".join(steps(hint)) == hint
    assert all(step[0].isupper() or step[0] in "`'" for step in steps(hint))
