"""Science and compat layers: `science/<layer>` stand on each other by FROM, `compat/<layer>` go on top of the finals.

Each folder has a `sciserver-image.json` and a Dockerfile. A science layer is published as `{repo}/sci/{target}:{version}`;
the final one of each image and version also gets its compat layers, as `{repo}/rel/{image}:{version}`.
"""
