"""The traced proof: what tests opened in the chain's image and production lacks."""
