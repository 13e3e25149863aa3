"""What debugger and profiler have in common: rules with AWS's names, what they find, and their statuses."""
