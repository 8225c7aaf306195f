"""What a league is compared with: trained beside it."""
