"""What was asked of the stages up to an image: signed statements that are attached to it, and travel with it."""
