"""From the buffer to a target: which one, in batches, with retries, by one process of a host."""
