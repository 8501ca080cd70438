"""What goes in and comes out: images, annotations, listings, schemas."""
