"""Evidence that has all but one of what a cause asks for, and gets another cause, or none.

Each part of a compound condition of the table of causes is here the only one that is not so.
"""

from __future__ import annotations

from tests.helpers.near_access import ACCESS, NODE, REGISTERS
from tests.helpers.near_cpu import CPU, HYPERVISOR, LOGGED, UNNAMED
from tests.helpers.near_kernel import KERNEL, OWNER, VENDOR
from tests.helpers.near_kernel_parts import NEAR_KERNEL_PARTS
from tests.helpers.near_machines import MACHINES
from tests.helpers.near_modules import MODULES
from tests.helpers.near_parts import NEAR_PARTS
from tests.helpers.near_refused import REFUSED
from tests.helpers.nested_variants import NEAR_NESTED

NEAR = (
    *ACCESS,
    *NODE,
    *REGISTERS,
    *HYPERVISOR,
    *CPU,
    *LOGGED,
    *UNNAMED,
    *MODULES,
    *REFUSED,
    *VENDOR,
    *KERNEL,
    *OWNER,
    *MACHINES,
    *NEAR_PARTS,
    *NEAR_KERNEL_PARTS,
    *NEAR_NESTED,
)
