"""Facts derived from typed tables: deployments, ownership, failures, attempts."""
