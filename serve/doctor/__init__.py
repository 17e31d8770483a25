"""`whereupon doctor`: whether the machine and a run are fit for answers, and what to do where they are not."""
