"""Run states on their way to a target: segments, who owns them, what was delivered."""
