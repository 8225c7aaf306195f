"""The coordinator's half of `masked`, `he` and `he+masked`: keys passed on, uploads summed unread, sums handed out."""
