"""Trained models in use: one pipeline for each task, and one driver for files. `loading.load` opens any model."""
