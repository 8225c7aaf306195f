"""A site's half of secure aggregation: `site` is the entry; `keys`, `masking`, `model`, `suspicion` keep its state."""
