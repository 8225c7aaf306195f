"""From what a person asked for to a run folder."""
