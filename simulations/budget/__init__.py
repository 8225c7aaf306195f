"""Look at budgets (`look.py`) and choose them (`plan.py`, with the measured `curve.json`)."""
