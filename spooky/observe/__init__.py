"""What happened and why: counters, the access log, reasons."""
