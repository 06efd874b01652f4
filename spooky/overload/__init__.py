"""What gives when there is too much: limits on what is in flight."""
