"""Raw pages, items, cursors, quarantine and coverage: what was received, kept as it came."""
