"""The commands that run against each mutant, and the comparisons of their reports with those of the good kernel."""

from __future__ import annotations

# By name: the arguments of kvmprobe in the guest.
COMMANDS = {
    "check": ("check",),
    "trace": ("trace", "--mount"),
    "soak": ("soak", "--cycles", "30", "--vms", "2"),
    "reload": ("soak", "--cycles", "4", "--reload"),
    "hotplug": ("soak", "--cycles", "4", "--hotplug"),
    "kill": ("soak", "--cycles", "25", "--kill"),
}
ALWAYS = ("check", "trace", "soak")  # the others run where the table names them

# By name: the command whose report is compared.
COMPARISONS = {
    "compare": "check",
    "compare-strict": "check",
    "compare-trace": "trace",
    "compare-trace-strict": "trace",
    "compare-soak": "soak",
}
STRICT = "-strict"  # the end of the names of the comparisons with --strict: what changed counts as worse
WORSE = "WORSE"
LOST = "lost"  # the answer where the guest ended


def commands_for(named: str) -> list[str]:
    """Returns the commands that run against a mutant whose table names the command `named`."""
    return [*ALWAYS, *(name for name in (named,) if name in COMMANDS and name not in ALWAYS)]
