"""What streams did, kept: a listener that costs them nothing, a table, alerts."""
