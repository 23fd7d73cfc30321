"""What the facts mean: plain typed Python and SQL, with no Dagster and no HTML."""
