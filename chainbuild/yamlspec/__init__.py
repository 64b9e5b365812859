"""YAML files with line numbers: the rules for their content, the reader, and JSON schemas made from the rules."""
