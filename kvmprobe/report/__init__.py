"""Writes results safely, and reads stored reports."""

STANDARD_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")  # its names as the file of --output
