"""Command-line options and the project file, made into one request per kind of run."""
