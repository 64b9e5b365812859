"""What several suites share: strategies and helpers that know no test."""
