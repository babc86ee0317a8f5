"""Measures of what came out."""
