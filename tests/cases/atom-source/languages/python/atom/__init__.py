"""A stand-in for Atom's Python client."""

from atom.element import AtomError, Element

__all__ = ["AtomError", "Element"]
__version__ = "0.1"
