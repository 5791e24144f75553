"""Paths between two points, relaxed to geodesics."""
