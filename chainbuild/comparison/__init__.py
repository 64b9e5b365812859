"""Compare two images: packages, Python distributions, files, size, configuration, steps."""
