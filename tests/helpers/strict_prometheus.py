"""A strict reader of Prometheus' text format 0.0.4. It refuses what kvmprobe must not write."""

from __future__ import annotations

import re
from collections.abc import Iterator

Labels = frozenset[tuple[str, str]]
Samples = dict[tuple[str, Labels], float]

_NAME = r"[a-z][a-z0-9_]*"
_COMMENT = re.compile(rf"# (HELP|TYPE) ({_NAME}) (\S.*)")
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (-?[0-9][0-9.e+-]*)")  # without a timestamp
_LABEL = re.compile(rf'({_NAME})="((?:[^"\\]|\\["\\n])*)"(,|$)')
_ESCAPES = {r"\n": "\n", r"\"": '"', r"\\": "\\"}


def parse(text: str) -> Samples:
    """The samples. Raises ValueError unless each metric has HELP, TYPE and samples, once and together."""
    if not text.endswith("\n"):
        raise ValueError("the last line has no newline")
    samples: Samples = {}
    begun = [""]
    expected = "HELP"
    for line in text.split("\n")[:-1]:
        comment, sample = _COMMENT.fullmatch(line), _SAMPLE.fullmatch(line)
        if comment and comment[1] == expected == "HELP" and comment[2] not in begun:
            begun.append(comment[2])
            expected = "TYPE"
        elif comment and (comment[1], comment[2], comment[3]) == (expected, begun[-1], "gauge"):
            expected = "sample"
        elif sample and expected in ("sample", "HELP") and sample[1] == begun[-1]:
            expected = "HELP"  # or another sample of the metric
            key = (sample[1], frozenset(_labels(sample[2] or "")))
            if key in samples:
                raise ValueError(f"twice: {line}")
            samples[key] = float(sample[3])
        else:
            raise ValueError(f"not expected: {line!r}")
    if expected != "HELP" or not samples:
        raise ValueError("no sample")
    return samples


def _labels(text: str) -> Iterator[tuple[str, str]]:
    at, names = 0, set()
    while at < len(text):
        label = _LABEL.match(text, at)
        if label is None or label[1] in names:
            raise ValueError(f"not labels: {text}")
        names.add(label[1])
        yield label[1], re.sub(r"\\.", lambda escape: _ESCAPES[escape[0]], label[2])
        at = label.end()
