"""`chainbuild.yaml`: a project says once what one would otherwise type. It is read here, checked, written and merged."""
