"""Compares kvmprobe with other tools in the guests of the matrix: the answers of each, right or wrong."""
