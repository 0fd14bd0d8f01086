"""Bundled model configurations, in the form of a Hugging Face config.json."""
