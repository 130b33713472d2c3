"""The signals that ask a program to end."""

from __future__ import annotations

import signal

# Ctrl-C, kill and systemd, the end of the terminal. One that the caller ignores (nohup) is left ignored.
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
