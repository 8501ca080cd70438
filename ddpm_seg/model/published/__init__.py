"""Other projects' files, read and converted."""
