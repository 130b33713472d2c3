"""Mutants of the judge: what the quick tests notice. scripts/mutants runs it."""
