"""What travels where no folder is shared: bundles of a spec's files, and the outputs that come back."""
