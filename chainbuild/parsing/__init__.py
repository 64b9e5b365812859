"""Parse option values and args files, collecting every problem."""
