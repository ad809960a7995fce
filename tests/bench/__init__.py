"""Measurements, printed as a table with ratios to a bare reference measured in the same run. Not tests."""
