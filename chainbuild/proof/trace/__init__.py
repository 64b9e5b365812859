"""The traced proof: paths that tests opened in the chain's image and production lacks."""
