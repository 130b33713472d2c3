"""Broken kvm modules: which of kvmprobe's commands notice them. scripts/mutants runs it."""
