"""The traced proof: what tests open in the chain's image is in the production image. See docs/stages.md."""
