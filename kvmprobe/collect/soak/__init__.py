"""`kvmprobe soak`: create VMs, check every CPU, run the guest, close the VMs, check every CPU again, many times."""
