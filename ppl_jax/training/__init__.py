"""The training of proposal networks."""
