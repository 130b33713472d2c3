"""All variants of recorded evidence, judged."""

from __future__ import annotations

from typing import Any

from kvmprobe.judge import judge
from tests.helpers.agreement_variants import AGREEMENT
from tests.helpers.leak_variants import LEAKED
from tests.helpers.nested_variants import NESTED
from tests.helpers.part_variants import PARTS
from tests.helpers.passive_variants import PASSIVE
from tests.helpers.recorded_evidence import recorded
from tests.helpers.register_variants import REGISTERS
from tests.helpers.soak_variants import SOAKED
from tests.helpers.support_variants import SUPPORT
from tests.helpers.svme_variants import SVME
from tests.helpers.trace_variants import TRACED
from tests.helpers.uevent_variants import UEVENTS
from tests.helpers.unowned_variants import UNOWNED
from tests.helpers.variants import VARIANTS as OF_A_PROBE
from tests.helpers.watch_variants import WATCHED

VARIANTS = (
    *OF_A_PROBE,
    *SVME,
    *SUPPORT,
    *PASSIVE,
    *TRACED,
    *WATCHED,
    *SOAKED,
    *REGISTERS,
    *UNOWNED,
    *UEVENTS,
    *AGREEMENT,
    *LEAKED,
    *PARTS,
    *NESTED,
)


def variant(base: str, change: Any) -> Any:
    """The report on recorded evidence after a change."""
    evidence = recorded(base)
    change(evidence)
    return judge(evidence)
