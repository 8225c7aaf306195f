"""From a person's options to a run folder."""
