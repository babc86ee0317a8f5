"""The models in a browser: a page made from the options of their pipelines, served on this machine."""
