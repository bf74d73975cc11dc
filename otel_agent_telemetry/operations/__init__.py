"""Looking at what was recorded, and mending it: the logic behind the command, without printing."""
