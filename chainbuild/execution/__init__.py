"""Runs: execute the plan; prove, record and publish the results."""
