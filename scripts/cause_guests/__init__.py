"""Guests that are put into the state of each cause: for the tests of kvmprobe's hints, and for scripts/other-tools."""
