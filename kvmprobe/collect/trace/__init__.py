"""`kvmprobe trace`: the kernel's own functions and register writes between the ioctl and EFER, by its own tracing."""
