"""Records: what the chain registry remembers of what was built, and who says so."""
