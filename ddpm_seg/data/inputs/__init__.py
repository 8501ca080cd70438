"""Which images there are: folders, prefixes and lists of URIs."""
