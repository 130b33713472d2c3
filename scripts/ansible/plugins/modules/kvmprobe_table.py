#!/usr/bin/python
# GNU General Public License v2.0 or later (GPL-2.0-or-later), and so v3.0 as well: see LICENSE of kvmprobe
"""The documentation of the action kvmprobe_table."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kvmprobe_table
short_description: Prints one line per host, with its verdict and reason
version_added: 0.1.0
description:
  - It uses what the role P(kvmprobe.host.kvmprobe#role) and the playbook C(kvmprobe.host.check) registered.
  - It runs once, on the controller, and touches no host.
options:
  hosts:
    description: The hosts. By default all hosts of the play, including those that failed or could not be reached.
    type: list
    elements: str
attributes:
  check_mode:
    support: full
    description: It changes nothing.
author:
  - The developers of kvmprobe (@kvmprobe)
"""

EXAMPLES = r"""
- name: Show the table
  kvmprobe.host.kvmprobe_table:
"""

RETURN = r"""
rows:
  description: The lines of the table.
  returned: always
  type: list
  elements: dict
  contains:
    host:
      description: The host's name in the inventory.
      type: str
    verdict:
      description:
        - The verdict of kvmprobe. If there is none, V(unreachable), V(error), or in check mode V(not run).
      type: str
    reason:
      description: The reason of the verdict, or a dash.
      type: str
    kernel:
      description: The kernel's release, or a dash.
      type: str
    cpu:
      description: The model name, or a dash.
      type: str
    summary:
      description: The verdict in one sentence, or an error.
      type: str
"""
