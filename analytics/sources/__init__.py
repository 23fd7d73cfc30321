"""Where facts come from: one port, one module per provider, pages of raw records out."""
