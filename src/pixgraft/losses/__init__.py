"""Losses: pure functions of tensors, without weights. The methods hold the weights."""
