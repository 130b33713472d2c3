# GNU General Public License v2.0 or later (GPL-2.0-or-later), and so v3.0 as well: see LICENSE of kvmprobe
"""Prints a table of all hosts of a play, including those that failed or could not be reached."""

from __future__ import annotations

from ansible.plugins.action import ActionBase

_COLUMNS = ("host", "verdict", "reason", "kernel", "cpu", "summary")


class ActionModule(ActionBase):
    """The action kvmprobe_table: see modules/kvmprobe_table.py."""

    BYPASS_HOST_LOOP = True
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Prints the table, and returns its rows."""
        result = super().run(tmp, task_vars)
        validated = self.validate_argument_spec({"hosts": {"type": "list", "elements": "str"}})
        hosts = validated[1]["hosts"]
        if hosts is None:
            hosts = task_vars["ansible_play_hosts_all"]
        rows = [_row(host, task_vars["hostvars"][host]) for host in hosts]
        for line in _lines(rows):
            self._display.display(line)
        result.update(changed=False, rows=rows)
        return result


def _row(host, variables):
    """One row for a host. The texts come from the host, so they are made safe for a terminal."""
    reached, probed, fetched = (variables.get(f"kvmprobe_{name}") or {} for name in ("reached", "result", "fetched"))
    lost = next((step for step in (reached, probed, fetched) if step.get("unreachable")), None)
    error = lost.get("msg", "-") if lost else variables.get("kvmprobe_error")
    row = dict.fromkeys(_COLUMNS, "-")
    if "verdict" in probed:
        row.update({name: probed[name] for name in _COLUMNS if probed.get(name)})
        if error and not error.startswith(row["reason"]):  # checked, and then something else failed
            row.update(summary=error)
    elif lost:
        row.update(verdict="unreachable", summary=error)
    elif probed.get("skipped"):
        row.update(verdict="not run", summary=probed["msg"])
    else:
        row.update(verdict="error", summary=error or "it was not checked")
    row.update(host=host)
    return {name: _clean(text) for name, text in row.items()}


def _clean(text):
    """`text` on one line, with escapes in place of unprintable characters."""
    line = " ".join(str(text).split())
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


def _lines(rows):
    head = {name: name.upper() for name in _COLUMNS}
    widths = {name: max(len(row[name]) for row in [head, *rows]) for name in _COLUMNS}
    yield ""
    for row in [head, *rows]:
        yield "  ".join(row[name].ljust(widths[name]) for name in _COLUMNS).rstrip()
    counts = {}
    for row in rows:
        counts[row["verdict"]] = counts.get(row["verdict"], 0) + 1
    yield f"{len(rows)} host{'s' * (len(rows) != 1)}: " + ", ".join(f"{counts[name]} {name}" for name in sorted(counts))
