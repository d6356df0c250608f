"""Prints a line for each frame of a video: the hash of its pixels. Usage: frames_of.py VIDEO"""

import hashlib
import sys

import av

with av.open(sys.argv[1]) as video:
    for frame in video.decode(video=0):
        pixels = hashlib.sha256()
        for plane in frame.planes:
            pixels.update(plane)
        sys.stdout.write(f"{pixels.hexdigest()}\n")
