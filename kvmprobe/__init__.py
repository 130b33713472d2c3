"""kvmprobe shows, from the registers of every CPU, whether KVM can use SVM on this host, and why not."""

__version__ = "0.1.0"

# typing.TYPE_CHECKING without the import of typing, which takes a tenth of a probe's time. Type checkers know the name.
TYPE_CHECKING = False
