# GNU General Public License v2.0 or later (GPL-2.0-or-later), and so v3.0 as well: see LICENSE of kvmprobe
"""Documentation that the modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of module_utils/program.py."""

    DOCUMENTATION = r"""
options:
  path:
    description: The path of C(kvmprobe.pyz) on the host. The role P(kvmprobe.host.kvmprobe#role) copies it there.
    type: path
    default: /usr/local/lib/kvmprobe/kvmprobe.pyz
  interpreter:
    description: The Python, 3.9 or later, that runs it. By default the one that runs this module.
    type: path
  no_load:
    description: Do not load the kernel modules C(msr) and C(cpuid) temporarily if they are missing.
    type: bool
    default: false
  timeout:
    description: The number of seconds after which kvmprobe is terminated and the task fails. It leaves nothing behind.
    type: int
    default: 120
requirements:
  - Python 3.9 or later on the host
  - timeout (of coreutils or busybox) on the host
"""
