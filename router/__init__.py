"""The router between workers' pages and the task, and the architects that start it."""
