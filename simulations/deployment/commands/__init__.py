"""`hansa provision`, `coordinator`, `site`, `league` and `vault`: commands of the production half."""
