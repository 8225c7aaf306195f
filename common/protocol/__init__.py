"""What travels: one flat vector with a header, and each site's weight."""
