"""The commands, one file per group. A file imports click alone; what a command needs is imported when it runs."""
