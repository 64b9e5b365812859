"""Singularity: images of the chain registry or the local store as SIF files, which go to where people fetch them."""
