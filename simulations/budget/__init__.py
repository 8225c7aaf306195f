"""Show privacy budgets (`look.py`) and plan them (`plan.py`, with the measured `curve.json`)."""
