"""The commands of the command line, one module each; those of one subject share a room."""
