"""Figures of results: each draws on matplotlib Axes and returns them."""
