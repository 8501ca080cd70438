"""Reading and converting other projects' files."""
