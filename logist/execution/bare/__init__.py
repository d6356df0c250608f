"""Programs that watch commands, each in a Python of its own that has loaded nothing else.

Only the standard library, and of that only what is soon loaded. The programs see this folder as `bare` and nothing else
of Logist: what is here imports what is here, relatively, and nothing above.
"""
