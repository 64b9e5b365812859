"""Science and compat layers: `science/<layer>` are based on each other, `compat/<layer>` are added to the final ones.

Each folder has a `sciserver-image.json` and a Dockerfile. A science layer is published as `{repo}/sci/{target}:{version}`.
The final layer of each image and version is also published with its compat layers, as `{repo}/rel/{image}:{version}`.
"""
