"""The evidence about the host around KVM: a server in order, and changes of single values."""

from __future__ import annotations

import copy
from typing import Any

from tests.helpers.recorded_evidence import recorded

SERVER: Any = {
    "vulnerabilities": {
        "meltdown": "Not affected",
        "retbleed": "Mitigation: untrained return thunk; SMT vulnerable",
        "itlb_multihit": "KVM: Mitigation: VMX disabled",
    },
    "smt": {"control": "on", "active": "1"},
    "clock": {"current": "tsc", "available": "tsc hpet acpi_pm"},
    "memory_kb": 65_536_000,
    "huge_pages": {"2048kB": {"total": 1024, "free": 24}, "1048576kB": {"total": 16, "free": 16}},
    "transparent_huge_pages": "always [madvise] never",
    "iommu": {"tables": ["IVRS"], "devices": ["ivhd0", "ivhd1"], "groups": 30, "types": {"DMA-FQ": 28, "identity": 2}},
    "devices": {
        name: {
            "path": path,
            "registered": True,
            "type": "char",
            "number": number,
            "mode": "0660",
            "loadable": None,
        }
        for name, path, number in (
            ("vhost-net", "/dev/vhost-net", "10:238"),
            ("vhost-vsock", "/dev/vhost-vsock", "10:241"),
            ("tun", "/dev/net/tun", "10:200"),
        )
    },
    "cgroups": {"unified": "cpuset cpu io memory hugetlb pids rdma misc", "mounted": []},
}


def server(*changes: tuple[str, Any], like: str = "matrix/trixie/epyc") -> Any:
    """The recorded evidence `like` on a server in order, with values at paths ("context.smt.active") replaced."""
    evidence = recorded(like)
    evidence["context"] = copy.deepcopy(SERVER)
    for info in evidence["cpus"]["cpuinfo"].values():
        info["clock_flags"] = ["constant_tsc", "nonstop_tsc"]
        info["microcode"] = "0xa201210"
    for path, value in changes:
        *above, last = path.split(".")
        part = evidence
        for step in above:
            part = part[step]
        part[last] = value
    return evidence
