"""What is in force: the compiled, immutable result of a configuration."""
