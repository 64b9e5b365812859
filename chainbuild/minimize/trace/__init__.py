"""What a traced test accessed, and what of it a production image does not have; see docs/stages.md, "The traced proof"."""
