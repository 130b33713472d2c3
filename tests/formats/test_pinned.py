"""No format changes its output unnoticed.

After an intended change `python -m tests.helpers.pinned_outputs` renews the files in tests/formats/golden.
"""

from __future__ import annotations

from tests.helpers import pinned_outputs as pinned


def test_every_format_of_every_recorded_report() -> None:
    """Digests, a line for each report: the failure shows which reports and formats changed."""
    assert pinned.digests().splitlines() == pinned.DIGESTS.read_text().splitlines()


def test_whole_outputs() -> None:
    """One report of each verdict, in every format that people may read, as they see it."""
    outputs = dict(pinned.wholes())
    assert sorted(outputs) == sorted(path.name for path in pinned.FOLDER.iterdir() if path != pinned.DIGESTS)
    for name, text in outputs.items():
        assert text == (pinned.FOLDER / name).read_text(), name
