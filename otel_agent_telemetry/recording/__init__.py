"""Recording: from observed spans to lines in the journal and the buffer."""
