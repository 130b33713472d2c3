"""On which CPUs the guest may run: where EFER.SVME is 0, VMRUN raises #UD in the kernel."""

from __future__ import annotations

from typing import Any

import pytest

from kvmprobe.collect.vm_probe import cpus_for_guest

SET, CLEAR, UNREAD = "0x1d01", "0xd01", {"error": "EIO"}


@pytest.mark.parametrize(
    ("values", "cpus"),
    [
        ((SET, SET), {0, 1}),
        ((SET, CLEAR), {0}),
        ((CLEAR, SET), {1}),
        ((CLEAR, CLEAR), set()),
        ((SET, UNREAD), {0}),
        ((UNREAD, SET), {1}),
        ((CLEAR, UNREAD), set()),
        ((UNREAD, UNREAD), {0, 1}),  # a backend without SVM
        ((SET, None), {0}),
        ((None, None), {0, 1}),
        ((), set()),
    ],
)
def test_guest_runs_where_svme_is_set_or_no_register_can_be_read(values: tuple[Any, ...], cpus: set[int]) -> None:
    registers: Any = {str(cpu): {"EFER": value} for cpu, value in enumerate(values)}
    assert cpus_for_guest({"phase": "created", "cpus": registers}) == cpus
