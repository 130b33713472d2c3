"""kvmprobe shows, from the registers of every CPU, whether KVM can use SVM on this host, and why not."""

__version__ = "0.1.0"
