"""Quality control: grading of onboarding, acceptability of conversations, block lists."""
