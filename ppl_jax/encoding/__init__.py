"""What a network reads of a trace: coordinates of parameters and values, tokens, batches."""
