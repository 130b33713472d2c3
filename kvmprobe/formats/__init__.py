"""What comes out: one module for each format, each with `render(report, …) -> str`."""
