"""From cleaned rows and pictures to sealed objects."""
