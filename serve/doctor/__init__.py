"""`whereupon doctor`: whether a machine and a run can answer requests, and what to do if they cannot."""
