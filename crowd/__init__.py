"""The crowd: workers of a task, what they are paid, and what must hold before paid work is offered."""
