"""Generate CI workflows from a tree: the graph becomes jobs (`jobs`), and each vendor's module writes its syntax."""
