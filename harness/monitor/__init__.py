"""Monitor: the folder of saved reports and the run in progress, in a browser."""
