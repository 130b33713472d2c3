"""Evidence of one host: what each command reads, in which order. Nothing is judged here."""
