"""What the commands run: one module per kind of run, and the frame of all of them.

The modules in `commands` declare flags and import little, so that `--help` and completion start fast.
"""
