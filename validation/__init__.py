"""Runs plans for real and holds predictions against measurements."""
