"""A run from its options to the report, the plan of a run, and answers from a finished one."""
