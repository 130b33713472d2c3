"""Pairs of recorded reports that the tests compare."""

from __future__ import annotations

from hypothesis import HealthCheck

from tests.helpers.recorded_evidence import EVIDENCE, RECORDED, recorded_name

MATRIX = EVIDENCE / "matrix"


KERNELS = sorted(path.name for path in MATRIX.iterdir() if path.is_dir())


NAMES = [recorded_name(path) for path in RECORDED]


SUPPRESS = list(HealthCheck)


CONFIRMED, FAILED = "matrix/bookworm/epyc", "matrix/bookworm/held-first"
