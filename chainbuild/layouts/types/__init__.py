"""Image types: folders `<type>/<system>` with a `casa_distro_docker.yaml` and a Dockerfile, found in several places.

One folder makes one image or several: names, tags, visibility and the parameters of its template files are the file's.
"""
