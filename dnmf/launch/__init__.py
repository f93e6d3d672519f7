"""From what a caller gives to a run: the data, the plan, the run folder, the executor."""
