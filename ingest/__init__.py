"""Delivered bytes become accepted, deduplicated, reduced tables and one commit."""
