"""Speed, shown by ratios measured side by side in one run."""
