"""The manual page and the shells' completions, from the same data as --help and explain. Not shipped: run at build."""
