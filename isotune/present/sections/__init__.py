"""Each kind of result as a section."""
