"""Programs that watch commands, each in a Python that loads nothing else, and what they share with who starts them.

Only the standard library, and of that only what is soon loaded. The programs see this folder as `bare` and nothing else
of Logist: what is here imports what is here, relatively, and nothing above.
"""
