"""Records: what the chain registry stores about built images, signed."""
