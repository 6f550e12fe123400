"""What the facade does, apart from how a contract words it: each contract's routes call these."""
