"""CI workflows from a tree: the graph becomes jobs (`jobs`), and each vendor's module writes them in its own idiom."""
