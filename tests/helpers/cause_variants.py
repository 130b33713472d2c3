"""Evidence of each cause: recorded evidence, changed as the cause would have it.

The log lines are those of the kernel's own sources, in old and new wording.
"""

from __future__ import annotations

from tests.helpers.cause_changes import Caused
from tests.helpers.caused_access import CAUSED_ACCESS
from tests.helpers.caused_containers import CONTAINERS, DISTRIBUTIONS
from tests.helpers.caused_cpu import CAUSED_CPU
from tests.helpers.caused_kernel import CAUSED_KERNEL
from tests.helpers.caused_machines import MACHINES
from tests.helpers.caused_modules import CAUSED_MODULES
from tests.helpers.nested_variants import CAUSED_NESTED

CAUSED: Caused = (
    *CAUSED_CPU,
    *CAUSED_MODULES,
    *CAUSED_KERNEL,
    *CAUSED_ACCESS,
    *CONTAINERS,
    *DISTRIBUTIONS,
    *MACHINES,
    *CAUSED_NESTED,
)
