"""Signatures and trust: who signed a record, and which keys are trusted.

Nothing is imported here: a command that reads no record does not load the cryptography library.
"""
