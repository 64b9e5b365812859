"""What of a root file system a production image needs, and why: found natively, statically, for any platform.

The package needs the standard library only and imports nothing else of chainbuild, so that a build stage can
run it as ``python3 -m chainbuild.minimize`` with no more than this folder mounted. It never runs a program of
the root file system that it looks at, and never reads a byte outside of it.
"""
