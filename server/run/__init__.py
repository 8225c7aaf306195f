"""What one run is: league, roster, state, deadline, guard."""
