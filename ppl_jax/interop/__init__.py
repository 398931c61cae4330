"""Models and distributions of other libraries, and ours for them."""
