"""`chainbuild debug`: a shell at an instruction of a step's Dockerfile, with everything that the instruction gets."""
