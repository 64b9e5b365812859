"""`chainbuild.yaml`, the settings of a project: read, check, write and merge with the command line."""
