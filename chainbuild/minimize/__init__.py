"""Find out which files of a root file system a production image needs, and why: statically, for any platform.

The package needs only the standard library and imports nothing else of chainbuild, so that a build stage can run it as
`python3 -m chainbuild.minimize` with only this folder mounted. It never runs a program of the root file system that it
analyses, and never reads a byte outside of it.
"""
