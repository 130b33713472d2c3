"""Each cause that a guest can be put into: the report names it, and what its hint names works, word for word.

One guest goes through all cases of a kernel. Before a case, kvm_amd is not loaded; msr and cpuid are. The guest runs
every command of the hint, and the next check has to confirm SVM. It does not run what stands in `not_here`: a reboot
(the guest would lose the cases that follow; see test_causes_boot.py), and the tools of other distributions. In place of
them:

- `apt-get install …` is a stand-in that puts the files of the package back, because the guest has no network;
- `sudo` is a stand-in that only runs its command, because root runs the hints; $USER is the user `tester`;
- `VBoxManage` and `vmrun` are stand-ins for hypervisors that Debian does not have, and so are their modules (a few
  lines of C). To end the VM is to close the module's device node, and to clear EFER.SVME;
- `action` is what a hint asks for in words. Where `again` differs from `check`, the words ask for another user, or for
  a process outside of the sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmprobe.lab.kernels import Kernel
from kvmprobe.model.errors import Problem
from scripts.cause_guests import software
from scripts.cause_guests.cases import FOLLOWED, Case
from tests.helpers.hinted_guests import faults, follow
from tests.helpers.real_kernels import unavailable

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize(("name", "cases"), FOLLOWED.items())
def test_the_commands_of_a_hint_remove_its_cause(
    name: str, cases: tuple[Case, ...], real_kernel: Callable[[str], Kernel], tmp_path: Path
) -> None:
    kernel = real_kernel(name)
    modules = software.module_files(kernel, tmp_path / "modules")
    try:
        results = follow(kernel, cases, tmp_path, modules)
    except Problem as problem:
        unavailable(problem)
    print([(case.cause, result["seconds"]) for case, result in zip(cases, results)])
    wrong = {case.cause: found for case, result in zip(cases, results) if (found := faults(case, result))}
    assert not wrong, json.dumps(wrong, indent=1)
    assert len(results) == len(cases)
