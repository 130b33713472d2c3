"""`kvmprobe soak`: the cycle of creating, checking, running, closing and checking again, many times."""
