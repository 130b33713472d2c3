"""What users write behind --require: right, wrong, contradictory, random."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmprobe.judge.facts import Facts
from kvmprobe.judge.requirements.demands import WrongDemand, combine, listing, parse, parse_file, parse_list, stored
from kvmprobe.judge.requirements.quantity import OPERATORS
from kvmprobe.judge.requirements.requirement import Requirement
from kvmprobe.model.printable import clean
from tests.helpers.context_variants import server

NAMES = [name for name, _ in listing()]


def test_each_requirement_of_the_list_can_be_asked() -> None:
    assert [requirement.name for requirement in parse_list(",".join(NAMES))] == NAMES
    for name, description in listing():
        assert description == clean(description)
        assert 10 < len(description) < 150, name


def test_the_requirement_of_a_feature_begins_with_what_is_required() -> None:
    descriptions = dict(listing())
    assert descriptions["nested"].startswith("kvm_amd uses this feature: A guest can use SVM itself")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "a requirement is empty", ""),
        ("iommu,,tun", "a requirement is empty", ""),
        ("imomu", "no requirement is called 'imomu'", "Did you mean iommu?"),
        ("tsc_stable", "no requirement is called 'tsc_stable'", "Did you mean tsc-stable?"),
        ("IOMMU", "no requirement is called 'IOMMU'", "Did you mean iommu?"),
        ("cpu>=4", "no requirement is called 'cpu'", "Did you mean cpus?"),
        ("cpus", "cpus needs a comparison", "in quotation marks"),
        ("cpus>=", "cpus>=: the limit is not a number", "cpus>=64"),
        ("cpus>=-1", "the limit is not a number", ""),
        ("cpus>=0x10", "the limit is not a number", ""),
        ("cpus>=1e9", "the limit is not a number", ""),
        ("cpus>=\u0664", "the limit is not a number", ""),
        ("cpus=>4", "=> is no comparison; did you mean >=?", ">= <= > < ="),
        ("cpus!=4", "!= is no comparison", ""),
        ("cpus>=<4", ">=< is no comparison", ""),
        ("microcode>=A201210", "is not a patch level", "0x0A201210"),
        ("microcode>=0x1ffffffff", "is not a patch level", ""),
        ("memory>=64", "is not a size such as 64G", ""),
        ("memory>=64X", "is not a size such as 64G", ""),
        ("kernel>=6", "is not a version such as 6.12", ""),
        ("iommu>=1", "iommu is no quantity", "Write iommu alone."),
        ("@file", "no requirement is called '@file'", "Give each file a --require of its own"),
        ("none,iommu", "none stands alone", "--require none"),
        ("iommu,none", "none stands alone", "--require none"),
        ("x" * 10_000, "no requirement is called 'xxx", ""),
        ("\x1b[31miommu", "no requirement is called", ""),
    ],
)
def test_what_is_no_requirement_is_refused_in_one_line(text: str, message: str, hint: str) -> None:
    with pytest.raises(WrongDemand) as wrong:
        parse_list(text)
    assert message in wrong.value.message
    assert hint in wrong.value.hint
    for line in (wrong.value.message, wrong.value.hint):
        assert line == clean(line)
        assert len(line) < 250


@pytest.mark.parametrize(
    ("texts", "refused"),
    [
        (["cpus>=4,cpus<3"], True),
        (["cpus>=4", "cpus<4"], True),
        (["cpus>4,cpus<=4"], True),
        (["cpus=4,cpus=5"], True),
        (["cpus=4,cpus>4"], True),
        (["cpus>=4,cpus<=4,cpus=4"], False),
        (["cpus>=4,memory<3G"], False),
        (["kernel>=6.0,kernel<7.0"], False),
        (["kernel>=6.12,kernel<6.12-rc1"], True),
        (["memory>=1G,memory<=1024M"], False),
        (["smt", "smt-off"], True),
        (["smt-off,smt"], True),
        (["iommu,iommu", "iommu"], False),
    ],
)
def test_requirements_that_no_host_can_meet_together_are_refused(texts: list[str], refused: bool) -> None:
    lists = [parse_list(text) for text in texts]
    if not refused:
        names = [requirement.name for requirement in combine(lists)]
        assert len(set(names)) == len(names)
        return
    with pytest.raises(WrongDemand, match="no host can be"):
        combine(lists)


def test_limits_contradict_each_other_only_where_no_number_is_as_both_require() -> None:
    for first, second in itertools.product(itertools.product(OPERATORS, range(4)), repeat=2):
        signs = (first, second)
        possible = any(all(OPERATORS[sign](half / 2, limit) for sign, limit in signs) for half in range(-2, 10))
        lists = [[parse(f"cpus{sign}{limit}") for sign, limit in signs]]
        try:
            combine(lists)
            assert possible, signs
        except WrongDemand:
            assert not possible, signs


def test_a_file_has_one_requirement_per_line_and_comments() -> None:
    text = "# all hosts\n\n  iommu  # for devices\r\ncpus >= 64\nvhost,tun\n"
    assert [requirement.name for requirement in parse_file(text)] == ["iommu", "cpus>=64", "vhost", "tun"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("iommu\n\nimomu\n", "line 3: "),
        ("# none\n", "no requirement in it"),
        ("iommu\n@other\n", "line 2: no requirement is called '@other'"),
        ("none\n", "line 1: none stands alone"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_line(text: str, message: str) -> None:
    with pytest.raises(WrongDemand, match=message):
        parse_file(text)


def test_a_stored_requirement_that_this_version_does_not_know_is_unknown() -> None:
    facts = Facts(server())
    assert stored("iommu").ask(facts).status == "met"
    for name in ("from-the-future", "cpus>=many", "", "cpus"):
        assert stored(name).name == name
        assert stored(name).ask(facts).status == "unknown"


def refused_or(parse_text: Callable[[str], list[Requirement]], text: str) -> list[Requirement] | None:
    """What the text asks; None where it is refused, in one line."""
    try:
        return parse_text(text)
    except WrongDemand as wrong:
        texts = [wrong.message, wrong.hint]
    assert texts == [clean(line) for line in texts]
    return None


_PIECES = st.sampled_from(
    [*NAMES, "cpus", "kernel", ">=", "<", "=", ",", "@", "6.12", "64", "0x", " ", "\n", "-rc", "G"]
)


@given(st.one_of(st.text(max_size=40), st.lists(_PIECES, max_size=6).map("".join)))
def test_any_text_is_requirements_or_is_refused_in_one_line(text: str) -> None:
    found = refused_or(parse_list, text)
    if found is None:
        return
    again = parse_list(",".join(requirement.name for requirement in found))
    assert [one.name for one in again] == [one.name for one in found]


@given(st.text(max_size=60))
def test_any_file_is_requirements_or_is_refused(text: str) -> None:
    assert refused_or(parse_file, text) != []
