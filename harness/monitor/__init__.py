"""The monitoring layer over saved and running results."""
