"""Saved reports as time series: where did a case change, by how much, and when?"""
