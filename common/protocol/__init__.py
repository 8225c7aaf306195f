"""What messages contain: one flat vector with a header; and how much each site weighs."""
