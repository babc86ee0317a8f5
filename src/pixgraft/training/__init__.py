"""Training: the loop, its experiment, its batches and its previews."""
