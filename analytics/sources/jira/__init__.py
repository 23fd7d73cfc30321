"""Jira behind the port, Cloud and Data Center: incidents by a JQL, and approvals by change tickets."""
