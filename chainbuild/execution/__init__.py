"""Runs: the plan is executed, results are proven, recorded and published."""
