"""`python -m chainbuild`: the command line."""

from chainbuild.cli import main

main()
