"""Compare what a traced test accessed with a production image; see docs/proofs.md, "The traced proof"."""
