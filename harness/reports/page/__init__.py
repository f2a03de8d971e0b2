"""A report as one page: a file that needs no server, no network and no script."""
