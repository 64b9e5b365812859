"""Two images side by side: packages, distributions, files, size, configuration, steps."""
