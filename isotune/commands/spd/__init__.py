"""Dropped all-reduces (SPD) on real weights: what each costs, what recovery wins back.

`isotune.cli` names the modules: each is a command.
"""
