"""Measurements: made on this machine, read from other tools, fitted to a profile, set against one.

`isotune.cli` names the modules: each is a command.
"""
