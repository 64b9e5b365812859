"""Convert images of the chain registry or the local store to SIF files for Singularity, and publish the files."""
