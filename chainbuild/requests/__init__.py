"""Turn command-line options and the project file into a request, one module per kind of run."""
