"""`whereupon recommend --all-users`: a ranking for every user, on this machine or on a cluster."""
