"""Find packages of images that have newer versions in the images' own sources, and the steps that would gain them."""
