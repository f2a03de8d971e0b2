"""Small functions that streaming jobs keep needing; each works on what it is given.

Importing them starts nothing: a session is an argument, and time too where it counts.
"""
