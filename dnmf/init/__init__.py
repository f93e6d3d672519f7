"""Starts of H."""
