"""What exists: thin Dagster assets, checks, partitions and resources, one file per stage."""
