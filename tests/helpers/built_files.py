"""The versions that scripts/build pins, by project."""

from __future__ import annotations

import re

from tests.helpers.run_kvmprobe import PROJECT

PINS = dict(re.findall(r"^(\S+)==(\S+)", (PROJECT / "scripts/distribution/requirements.txt").read_text(), re.MULTILINE))
