"""Registries: the client of the distribution protocol, and images and artifacts on top of it.

Nothing is imported here, so that a run that builds nothing loads only what it uses.
"""
