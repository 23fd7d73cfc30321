"""GitHub behind the port: github.com or a GitHub Enterprise Server, with a token or an app."""
