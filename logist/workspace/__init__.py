"""What `workspace_utils` is made of: git's objects and refs, the evidence walk, and the only module that runs git."""
