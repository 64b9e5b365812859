"""Directory conventions, each one module that translates a folder into the one Graph. They only read."""
