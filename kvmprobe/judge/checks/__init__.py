"""The checks: one file for each step of the kernel, and one for each thing that evidence can contradict."""
