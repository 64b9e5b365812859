"""What an image has to pass before it gets its name."""
