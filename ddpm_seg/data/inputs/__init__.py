"""Finding the input images: folders, prefixes and lists of URIs."""
