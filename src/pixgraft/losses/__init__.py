"""Losses: pure functions of tensors, unweighted. The weights stand in the methods."""
