"""`kvmprobe watch`: the KVM ioctls of any VMM, seen by ptrace, and the registers of every CPU at each of them."""
