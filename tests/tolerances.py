"""What counts as equal, close or quick enough. One name for each comparison, with its reason."""

FRONT_DOOR_START_S = 0.2
"""Importing the front door and building its parser: 0.05 s of processor time. The bound leaves room for a slow machine
and still catches one heavy import (numpy alone takes 0.1 s, OpenCV 0.2 s, torch 2 s)."""
CAMERA_RATE = 0.04
"""Relative: a second at 30 fps holds 30 or 31 pictures, depending on where it begins."""
JPEG_LEVELS = 3.0
"""Levels of 255: a single colour comes out of a JPEG of quality 95 at most 2 off."""
