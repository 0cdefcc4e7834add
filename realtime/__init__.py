"""The live loop: everything that sees a face and swaps it, from the camera to the window. No torch here."""

__version__ = "0.1.0"
