"""What users have already: logs and files of other tools, turned into tables and profiles."""
