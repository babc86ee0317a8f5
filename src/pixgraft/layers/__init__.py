"""Building blocks of networks: convolutions, normalisation, resampling, augmentation."""
