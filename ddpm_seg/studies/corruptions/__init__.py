"""How well models label corrupted images."""
