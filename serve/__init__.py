"""Answers to people and programs. Knows nothing of training."""
