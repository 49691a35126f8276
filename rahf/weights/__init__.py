"""Importing and exporting published checkpoints."""
