"""A generator learns from the feedback that a model predicts, and another one judges."""
