"""Results for people: one section per result, written to a terminal or as a page."""
