"""Make base images from a distribution's packages."""
