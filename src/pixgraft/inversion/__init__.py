"""Searches in a frozen prior for the codes of an image: nothing is trained beforehand."""
