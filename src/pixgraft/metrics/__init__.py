"""Metrics of images and of sets of features: pure functions of tensors."""
