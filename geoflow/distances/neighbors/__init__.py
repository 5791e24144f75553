"""Exact nearest neighbours: one door (`nearest`), several engines."""
