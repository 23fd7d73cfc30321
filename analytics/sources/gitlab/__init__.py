"""GitLab behind the port: gitlab.com or an instance of one's own, with a token."""
