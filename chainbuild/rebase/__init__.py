"""Rebase: put the layers of a built image on another base image, if it is proven that a build would give the same."""
