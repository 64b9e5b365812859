"""Read the options of `chainbuild ci` and the tree: what a workflow builds, on which machines, with which commands."""
