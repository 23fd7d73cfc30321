"""What readers see: the pack, its charts, templates and manifest; no Dagster."""
