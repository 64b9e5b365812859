"""Compare what a traced test accessed with a production image; see docs/stages.md, "The traced proof"."""
