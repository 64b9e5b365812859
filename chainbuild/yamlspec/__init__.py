"""YAML files with line numbers: rules, their reader, and JSON schemas made from them."""
