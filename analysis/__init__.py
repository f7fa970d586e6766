"""From saved conversations to tables, statistics and a report."""
