"""Commits and the runs that made them: the hooks of git, what they leave to the background, and reading both."""
