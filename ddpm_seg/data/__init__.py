"""Reading images and annotations, listing inputs, exporting labels, and the tables' schemas."""
