# GNU General Public License v2.0 or later (GPL-2.0-or-later), and so v3.0 as well: see LICENSE of kvmprobe
"""The documentation that the modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Of module_utils/program.py."""

    DOCUMENTATION = r"""
options:
  path:
    description: Where C(kvmprobe.pyz) is on the host. The role P(kvmprobe.host.kvmprobe#role) puts it there.
    type: path
    default: /usr/local/lib/kvmprobe/kvmprobe.pyz
  interpreter:
    description: The Python, 3.9 or later, that runs it. The one that runs this module, if not given.
    type: path
  no_load:
    description: Do not load the kernel modules C(msr) and C(cpuid), and unload them again, where they are missing.
    type: bool
    default: false
  timeout:
    description: After so many seconds kvmprobe is ended, which leaves nothing behind, and the task fails.
    type: int
    default: 120
requirements:
  - Python 3.9 or later on the host
  - timeout (of coreutils or busybox) on the host
"""
