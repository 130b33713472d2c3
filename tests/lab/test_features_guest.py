"""What kvm_amd made of each feature on real kernels, with an emulated CPU that claims most of them.

One boot for each kernel: kvm_amd is loaded again with some parameters off. tests/judge/feature_runs.json has
each parameter alone, recorded in such guests.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from kvmprobe.lab import guest_program
from tests.helpers.feature_runs import CPU, evidence_of_run, in_effect, logged, rows
from tests.helpers.real_kernels import Guest
from tests.helpers.run_kvmprobe import PROJECT

pytestmark = pytest.mark.kernel

# The parameters of each loading, and what they take away.
RUNS = {
    "npt=0 avic=1": {"npt", "avic", "ipiv", "vls"},
    "nested=0 nrips=0 lbrv=0 tsc_scaling=0 vgif=0 pause_filter_count=0": {
        *("nested", "nrips", "lbrv", "tsc-scaling", "vgif", "pause-filter"),
        *("avic", "ipiv"),  # which nobody asked for
    },
}
NOT_CLAIMED = {"gmet", "x2avic", "vnmi", "v-spec-ctrl"}


@pytest.mark.parametrize("kernel", ["bookworm", "trixie", "trixie-backports"])
def test_effects_are_those_of_the_kernels_log(kernel: str, guest: Guest) -> None:
    python = shlex.join(guest_program.python(Path("/")).command("-"))
    script = PROJECT / "tests/helpers/feature_reloads.py"
    output = guest(f"{python} {shlex.join(RUNS)} <{script}", ("modprobe kvm_amd avic=1",), kernel, cpu=CPU)
    found = json.loads(output[output.index("{") :])
    every = in_effect(found["evidence"])
    assert set(rows(found["evidence"])) - every == NOT_CLAIMED
    for parameters, taken in RUNS.items():
        run = found["runs"][parameters]
        evidence = evidence_of_run(found["evidence"], run)
        assert in_effect(evidence) == every - taken, parameters
        shown, used = logged(run["log"], kernel)
        assert in_effect(evidence) & shown == used, parameters
