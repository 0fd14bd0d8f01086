"""Searches plans: exactly where that is possible, with Optuna where the space is larger."""
