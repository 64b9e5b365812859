"""One build: its specification, the builder that does it, its progress and its failures."""
