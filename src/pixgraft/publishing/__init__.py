"""Models passed on: their cards, and their upload to a Hugging Face hub."""
