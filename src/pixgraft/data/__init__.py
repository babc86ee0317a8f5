"""Images from folders and zips, and the stateless order in which training sees them."""
