"""`make demo`: from nothing to a trained model, and a picture of what it sees."""
