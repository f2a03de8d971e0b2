"""The verdict: which case got slower, which did not, and which nobody can say."""
