"""Base images made from a distribution's packages."""
