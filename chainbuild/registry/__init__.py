"""Registries: the client of the distribution protocol, images and artifacts on top of it, and the managed registry.

Nothing is imported here: a run that builds nothing pays for what it uses and no more.
"""
