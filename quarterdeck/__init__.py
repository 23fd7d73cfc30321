"""The front door: the command line and the Dagster code location, nothing else."""
