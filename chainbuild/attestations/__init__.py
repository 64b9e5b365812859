"""Attestations: signed statements about an image that other programs understand, and policies about them."""
