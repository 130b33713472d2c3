"""Writes the manual page and the shell completions. Both follow from the parser that --help comes from."""
