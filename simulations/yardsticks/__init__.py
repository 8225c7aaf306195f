"""The models with which a league is compared; they're trained beside it."""
