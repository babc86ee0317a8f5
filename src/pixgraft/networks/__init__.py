"""Networks, one family per file, without losses, optimizers or file access."""
