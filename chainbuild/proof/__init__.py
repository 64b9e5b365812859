"""The proofs that an image must pass before it is tagged."""
