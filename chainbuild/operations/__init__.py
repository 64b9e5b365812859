"""What the commands do that look at or look after what is there."""
