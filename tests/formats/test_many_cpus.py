"""Hosts with thousands of CPUs: what people read stays short, and sizes grow at most with the number of CPUs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvmprobe.formats import FORMATS, text
from kvmprobe.summary import fleet_page, summary_text
from tests.helpers.many_cpus import DIFFERENCES, many_cpus
from tests.helpers.run_kvmprobe import kvmprobe
from tests.helpers.summaries import summary_of

WIDE, CPUS = 1024, 4096
SHORT = ("text", "prometheus", "nagios", "nfd")  # the other formats have something about each CPU


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_what_people_read_stays_short(difference: str) -> None:
    few, many = (many_cpus(cpus, difference) for cpus in (16, WIDE))
    assert many["verdict"]["reason"] == few["verdict"]["reason"]
    for verbose, most in ((-1, 12), (0, 34), (1, 82)):
        lines = text.render(many, verbose, width=80).splitlines()
        assert len(lines) <= most, "\n".join(lines)
        assert max(map(len, lines)) <= 120
    assert len(summary_text.render(summary_of([many]), width=80).splitlines()) < 35
    for one in (*many["verdict"]["because"], *(check["message"] for check in many["checks"])):
        assert len(one) < 500
    for name, form in FORMATS.items():
        small, large = (len(form.render(report, 0, False, None)) for report in (few, many))
        assert large < small * 2 + (3000 if name in SHORT else 2000 * WIDE), name
    assert len(fleet_page.render(summary_of([many]))) < 1_000_000


def test_stored_reports_of_many_cpus_are_read(tmp_path: Path) -> None:
    for cpus in (WIDE, CPUS):
        (tmp_path / f"{cpus}.json").write_text(json.dumps(many_cpus(cpus, "nothing"), indent=1))
    done = kvmprobe("summary", "--all", "--judge", "-q", tmp_path)
    assert (done.returncode, done.stdout) == (0, "CONFIRMED: 2 confirmed\n")
    done = kvmprobe("compare", tmp_path / f"{WIDE}.json", tmp_path / f"{CPUS}.json")
    assert len(done.stdout) < 3000
