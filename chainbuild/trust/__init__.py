"""Signatures and trust: who signed a record, and whose signatures count.

Nothing is imported here: a command that reads no record does not load the cryptography library.
"""
