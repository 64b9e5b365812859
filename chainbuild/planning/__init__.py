"""Plans: the action for every step, and its reason."""
