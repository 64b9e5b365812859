"""The machine that chainbuild runs on: its folders, temporary files, the package's own files, and git."""
