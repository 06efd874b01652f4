"""How Spooky is started, changed and stopped: everything that needs privileges or the disk."""
