"""Agent endpoints: client, stub server, token timing."""
