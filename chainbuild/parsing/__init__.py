"""Values and args files, parsed with every problem collected."""
