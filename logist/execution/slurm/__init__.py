"""Runs commands as job arrays of a Slurm cluster; needs Slurm's own programs and a folder that the nodes share."""
