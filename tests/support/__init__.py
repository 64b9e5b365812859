"""Strategies and helpers that several test suites share."""
