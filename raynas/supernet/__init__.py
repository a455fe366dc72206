"""Training a supernet, its weights file, and what its subnets are worth."""
