"""Video: what a file holds, and several files made into one."""
