"""The requester's page: a running or finished study, its reviews, and the acts on it (docs/dashboard.md)."""
