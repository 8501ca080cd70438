"""HTML pages and sheets of pictures for people to look at."""
