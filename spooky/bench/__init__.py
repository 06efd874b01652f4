"""How fast is it? The load generator, the peers it measures in the same run, and the reports."""
