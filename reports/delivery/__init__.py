"""Bringing a pack to its readers: a folder or static site, e-mail, a webhook; each once, retried and recorded."""
