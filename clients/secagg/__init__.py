"""A site's half of `masked`, `he` and `he+masked`: `site` tells the story; `keys`, `masking`, `model` hold the rest."""
