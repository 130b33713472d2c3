"""Builds what is installed on hosts: the wheel, kvmprobe.pyz and kvmprobe-maas.py. `scripts/build` runs it."""


class BuildError(Exception):
    """The build failed; the message is the reason."""
