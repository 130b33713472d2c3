"""`kvmprobe trace`: what the kernel itself did between the ioctl and the register, by its own tracing."""
