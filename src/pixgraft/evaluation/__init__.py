"""Measuring: named metrics on named subjects under a written protocol, and the report of it."""
