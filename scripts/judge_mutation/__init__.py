"""Mutants of the judge: what the quick tests notice. scripts/judge-mutants runs it."""
