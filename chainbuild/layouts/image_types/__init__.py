"""Image types (casa-distro): roots, a manifest per type, templates, and the tree that contains them."""
