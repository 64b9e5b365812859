"""Registries: the client of the distribution protocol, images and artifacts on top of it, and the managed registry.

Nothing is imported here, so that a run that builds nothing loads only what it uses.
"""
