"""PagerDuty behind the port: an account's incidents, with a key that may read."""
