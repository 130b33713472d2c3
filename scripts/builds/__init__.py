"""What `scripts/build` is made of."""
