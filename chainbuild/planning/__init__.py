"""What would be done to every step, and why."""
