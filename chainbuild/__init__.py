"""Chains of Dockerfiles become slim, proven production images; nothing is ever built twice."""

__version__ = "0.2.0"
