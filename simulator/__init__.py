"""Predicts what a plan takes: pure functions over frozen values, numpy only."""
