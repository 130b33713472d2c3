"""`kvmprobe explain`: by name, by a part of a name, several at once."""

from __future__ import annotations

import pytest

from kvmprobe.formats import explanation
from kvmprobe.judge.causes import CAUSES
from kvmprobe.judge.features.feature_table import FEATURES
from kvmprobe.judge.requirements.requirement_table import QUANTITIES, REQUIREMENTS
from kvmprobe.judge.sev import SEV_CAUSES
from kvmprobe.model.reasons import REASONS, RENAMED_REASONS
from tests.helpers.run_kvmprobe import kvmprobe

NAMES = list(dict.fromkeys([*REASONS, *CAUSES, *SEV_CAUSES, *FEATURES, *REQUIREMENTS, *QUANTITIES]))


def _explained(*names: str) -> list[str]:
    """The names that are explained, by the line that each explanation begins with."""
    done = kvmprobe("explain", *names)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split(":")[0] for line in done.stdout.splitlines() if line.split(":")[0] in NAMES]


@pytest.mark.parametrize("name", NAMES[::7])
def test_an_explanation_is_written_whole(name: str) -> None:
    """tests/formats/test_explanation.py tests what is in it."""
    done = kvmprobe("explain", name)
    assert (done.returncode, done.stdout, done.stderr) == (0, explanation.render(name), "")


def test_without_a_name_every_name_is_listed_once() -> None:
    assert [line.split()[0] for line in kvmprobe("explain").stdout.splitlines()] == NAMES


def test_several_names_are_explained_in_their_order_and_once() -> None:
    names = ["guest-failed", "api-version", "guest-failed"]
    assert _explained(*names) == names[:2]


def test_a_part_of_a_name_is_enough() -> None:
    loading = [name for name in NAMES if "load" in name]
    assert len(loading) > 1
    assert _explained("LOAD", "api-version") == [*loading, "api-version"]


@pytest.mark.parametrize(("old", "name"), RENAMED_REASONS.items())
def test_an_old_name_is_explained_by_its_new_one(old: str, name: str) -> None:
    assert _explained(old) == [name]


def test_a_whole_name_is_not_a_part_of_others() -> None:
    whole = next(name for name in REASONS if any(name != other and name in other for other in [*NAMES, f"{name}-x"]))
    assert _explained(whole) == [whole]


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (["firmwear-disabled"], "Did you mean firmware-disabled?"),
        (["api-version", "Guest-Faild"], "Did you mean guest-failed?"),
        (["zzz"], "'kvmprobe explain' lists them all."),
        ([""], "'kvmprobe explain' lists them all."),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(names: list[str], hint: str) -> None:
    done = kvmprobe("explain", *names)
    assert (done.returncode, done.stdout) == (64, "")
    first, second = done.stderr.splitlines()
    assert first == f"kvmprobe: no reason, cause, feature or requirement is called {names[-1]!r}, and none contains it"
    assert second == f"  {hint}"


def test_a_requirement_is_explained() -> None:
    for name, ask in (("iommu", "--require iommu"), ("cpus", "--require 'cpus>=64'")):
        done = kvmprobe("explain", name)
        assert done.returncode == 0
        assert f"{name}: a requirement, kvmprobe check {ask}\n" in done.stdout
        assert "What it asks:" in done.stdout
