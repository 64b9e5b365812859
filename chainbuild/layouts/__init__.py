"""The directory layouts: one module for each translates a folder into the one Graph. They only read."""
