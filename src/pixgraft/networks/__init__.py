"""Networks, one family a file: no losses, no optimizers, no reading or writing of files."""
